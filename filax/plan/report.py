# SPDX-License-Identifier: Apache-2.0
"""The plan of a config on a TPU slice, as plain data."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import jax

from filax.plan import collectives, program, topology
from filax.plan.evaluation import EvaluationDemand, plan_evaluation
from filax.spec import RowShape
from filax.train.memory_estimate import Policy, step_bytes
from filax.train.setup import Setup, prepare, resolved_config, step_facts
from filax.train.step_work import train_work

_CHOICES = 3  # Programs compiled until a choice for "auto" fits.
ASSUMED = (
  "no step can be faster: all arithmetic (recomputation included) at the chip's bfloat16 peak, or "
  "all collectives along one axis of the torus, whichever is longer, perfectly overlapped; rows "
  "full, one sample each in attention"
)


def plan_config(
  config: Mapping[str, Any],
  slice_: topology.Topology,
  samples: int = 0,
  largest: bool = False,
  demands: Sequence[EvaluationDemand] = (),
) -> dict[str, Any]:
  """Bytes, FLOPs and seconds of every row shape of a config.

  Compiles every row shape for a slice, or only the largest. samples: those of the stage, for its
  chip-hours. demands: those of config.evals, for the memory of evaluation. Raises ValueError for an
  invalid config.
  """
  plan = _first_that_fits(config, slice_, largest)
  setup = plan.pop("setup")
  config = resolved_config(config, setup)
  plan["fits"] = all(row["fits"] for row in plan["rows"])
  plan["peak_bytes"] = max(row["memory"]["total"] for row in plan["rows"])
  if demands:
    plan["evaluation"] = plan_evaluation(config, setup, demands, slice_.chip.hbm)
    plan["fits"] = plan["fits"] and plan["evaluation"]["fits"]
    plan["peak_bytes"] = max(plan["peak_bytes"], plan["evaluation"]["memory"]["total"])
  packed = config["data"]["packing"]
  if samples and not packed:  # Only the data tell how many samples a packed row holds.
    slowest = max(row["step_seconds"] for row in plan["rows"])
    seconds = samples / config["batch"] * slowest
    plan |= dict(samples=samples, chip_hours=seconds * slice_.chips / 3600)
  return plan


def _first_that_fits(
  config: Mapping[str, Any], slice_: topology.Topology, largest: bool
) -> dict[str, Any]:
  """The plan of the steps, without totals; with the setup behind it.

  A choice for "auto" that does not fit once it is compiled is followed by a smaller one.
  """
  usable = slice_.chip.hbm
  allowed = usable
  note = ""
  for _ in range(_CHOICES):
    setup = prepare(config, 1000, slice_.devices(), allowed)
    chosen = resolved_config(config, setup)
    shapes = program.config_rows(chosen, setup.model)
    rows = [_row_plan(chosen, setup, slice_, shapes[-1])]
    peak = rows[0]["memory"]["total"]
    if setup.fit is None or rows[0]["fits"]:
      break
    allowed *= 0.95 * min(1.0, setup.fit.bytes.peak / peak)
    note = " A larger choice did not fit: set these in the config, a run would not know."
  if not largest:
    rows = [*(_row_plan(chosen, setup, slice_, row) for row in shapes[:-1]), *rows]
  return dict(
    setup=setup,
    topology=str(slice_),
    chips=slice_.chips,
    usable_bytes=usable,
    mesh=dict(setup.mesh.shape),
    batch=config["batch"],
    micro_batches=setup.micro_batches,
    chosen="" if setup.fit is None else setup.fit.line() + note,
    remat=_remat(chosen),
    jax=jax.__version__,
    assumed=ASSUMED,
    rows=rows,
  )


def _remat(config: Mapping[str, Any]) -> dict[str, str]:
  """Role -> what its layers keep."""
  return {role: config["model"][role].get("remat", "none") for role in ("encoder", "llm")}


def estimated_bytes(config: Mapping[str, Any], setup: Setup, row: RowShape) -> float:
  """The estimate by which "auto" would judge this step."""
  remat = _remat(config)
  policy = Policy(remat["encoder"], remat["llm"], setup.micro_batches)
  return step_bytes(step_facts(config, setup), policy, row).peak


def _row_plan(
  config: Mapping[str, Any], setup: Setup, slice_: topology.Topology, row: RowShape
) -> dict[str, Any]:
  """The plan of a step whose rows have this shape."""
  batch = config["batch"]
  usable = slice_.chip.hbm
  compiled = program.compile_step(setup, config, row)
  memory = compiled.memory
  flops = train_work(setup.model, setup.like.params, setup.optimizer.rates, row)
  moved = moved_bytes(compiled, setup)
  compute_seconds = flops.hardware * batch / (slice_.chips * slice_.chip.flops)
  step_seconds = compute_seconds
  if moved["bytes"] is not None:
    total_moved = sum(sum(kinds.values()) for kinds in moved["bytes"].values())
    moved["seconds"] = total_moved / slice_.chip.link
    step_seconds = max(compute_seconds, moved["seconds"])
  fits = not compiled.error and memory.total <= usable
  if fits:
    lacks_bytes = 0.0
    advice = [] if setup.fit else larger_knobs(memory, usable, setup)  # "auto" has used it.
  else:
    lacks_bytes = memory.total - usable
    advice = smaller_knobs(memory, config, setup)
  return dict(
    frames=row.frames,
    images=row.images,
    positions=row.length,
    room=list(row.room),
    fits=fits,
    lacks_bytes=lacks_bytes,
    helps=advice,
    error=compiled.error,
    estimated_bytes=estimated_bytes(config, setup, row),
    memory=dataclasses.asdict(memory) | dict(total=memory.total),
    flops=dataclasses.asdict(flops) | dict(model=flops.model, hardware=flops.hardware),
    visual=visual_bytes(setup.model, row),
    collectives=moved,
    compute_seconds=compute_seconds,
    step_seconds=step_seconds,
    rows_per_second=batch / step_seconds,
    frames_per_second=(row.frames + row.images) * batch / step_seconds,
    compile_seconds=compiled.seconds,
  )


def visual_bytes(model: Any, row: RowShape) -> dict[str, int]:
  """Bytes of a row's media, as patches and as merged tokens."""
  item_bytes = jax.numpy.dtype(model.llm.dtype).itemsize
  layout = model.layout()
  patches = (row.frames + row.images) * math.prod(model.encoder.grid) * model.encoder.width
  merged = layout.newline_index(row) * model.llm.width
  return dict(patches=patches * item_bytes, merged=merged * item_bytes)


def moved_bytes(compiled: program.Program, setup: Setup) -> dict[str, Any]:
  """Bytes that a device receives in a step, by axes and kind."""
  if compiled.error:
    return dict(bytes=None, error=compiled.error)
  moves = collectives.read_collectives(compiled.text, dict(setup.mesh.shape))
  return dict(bytes=collectives.totals(moves))


def smaller_knobs(memory: program.Memory, config: Mapping[str, Any], setup: Setup) -> list[str]:
  """The knobs that make a program smaller, the most likely first."""
  mesh = setup.mesh.shape
  model = config["model"]
  knobs = []
  if memory.parameters + memory.optimizer > memory.temporary:
    knobs.append(f"more devices along config.mesh.fsdp={mesh['fsdp']}: parameters are the most")
  at_once = config["batch"] // (mesh["data"] * mesh["fsdp"] * setup.micro_batches)
  if at_once > 1:
    knobs.append(f"config.optim.accumulate=0: one row a device at a time instead of {at_once}")
  knobs.append(f"config.mesh.seq={2 * mesh['seq']}: half as many positions and frames on a device")
  if model.get("encode_chunk", 0) != 1:
    knobs.append("a smaller config.model.encode_chunk: fewer clips encoded at a time")
  if model["llm"].get("remat") != "nothing":
    knobs.append("config.model.llm.remat=nothing: keep only what enters a layer")
  return knobs


def larger_knobs(memory: program.Memory, usable: float, setup: Setup) -> list[str]:
  """The knob that uses free memory: fewer, larger micro-batches."""
  parts = setup.micro_batches
  fixed = memory.total - memory.temporary
  for fewer in range(1, parts):
    if parts % fewer == 0 and fixed + memory.temporary * parts / fewer < 0.9 * usable:
      return [
        f"config.optim.accumulate={fewer}: {parts // fewer} times as many rows at once should fit, "
        f"and weights are gathered in {fewer} instead of {parts} parts of a step"
      ]
  return []
