# SPDX-License-Identifier: Apache-2.0
"""What a plan says of a config on a slice of TPUs, as plain data and as text."""

from collections.abc import Iterator, Mapping
import dataclasses
import math
from typing import Any

import jax

from filax.plan import collectives, program, topology, work
from filax.spec import RowShape
from filax.train import setup as start

ASSUMED = (
  "no step can be faster: all arithmetic (recomputation included) at the chip's bfloat16 peak, or "
  "all collectives along one axis of the torus, whichever is longer, perfectly overlapped; rows "
  "full, one sample each in attention"
)


def plan(
  config: Mapping[str, Any],
  slice_: topology.Topology,
  samples: int = 0,
  largest: bool = False,
) -> dict[str, Any]:
  """Compiles every bucket of a config for a slice, or the largest. Bytes, FLOPs and seconds.

  `samples` of the stage give its chip-hours. Raises ValueError for what cannot be.
  """
  setup = start.prepare(config, steps=1000, devices=slice_.devices())
  shapes = program.rows(config, setup.model)[-1 if largest else 0 :]
  packed = config["data"]["packing"]
  out = dict(
    topology=str(slice_),
    chips=slice_.chips,
    usable_bytes=slice_.chip.hbm,
    mesh=dict(setup.mesh.shape),
    batch=config["batch"],
    micro_batches=setup.micro_batches,
    remat={role: config["model"][role].get("remat", "") for role in ("encoder", "llm")},
    jax=jax.__version__,
    assumed=ASSUMED,
    rows=[_row(config, setup, slice_, row) for row in shapes],
  )
  out["fits"] = all(row["fits"] for row in out["rows"])
  if samples and not packed:  # How many samples a packed row holds, only the data knows.
    slowest = max(row["step_seconds"] for row in out["rows"])
    seconds = samples / config["batch"] * slowest
    out |= dict(samples=samples, chip_hours=seconds * slice_.chips / 3600)
  return out


def _row(config, setup: start.Setup, slice_: topology.Topology, row: RowShape) -> dict[str, Any]:
  made = program.compile_step(setup, config, row)
  shapes = setup.like.params
  rates = setup.optimizer.rates
  one = work.train_work(setup.model, shapes, rates, row)
  total = made.memory.total
  travels = travel(made, setup)
  compute = one.hardware * config["batch"] / (slice_.chips * slice_.chip.flops)
  seconds = compute
  if travels["bytes"] is not None:
    moved = sum(sum(kinds.values()) for kinds in travels["bytes"].values())
    travels["seconds"] = moved / slice_.chip.link
    seconds = max(compute, travels["seconds"])
  fits = not made.error and total <= slice_.chip.hbm
  return dict(
    frames=row.frames,
    images=row.images,
    positions=row.length,
    room=list(row.room),
    fits=fits,
    lacks_bytes=0.0 if fits else total - slice_.chip.hbm,
    helps=spare(made.memory, slice_.chip.hbm, setup) if fits else helps(made.memory, config, setup),
    error=made.error,
    memory=dataclasses.asdict(made.memory) | dict(total=total),
    flops=dataclasses.asdict(one) | dict(model=one.model, hardware=one.hardware),
    visual=visual(setup.model, row),
    collectives=travels,
    compute_seconds=compute,
    step_seconds=seconds,
    rows_per_second=config["batch"] / seconds,
    frames_per_second=(row.frames + row.images) * config["batch"] / seconds,
    compile_seconds=made.seconds,
  )


def visual(model, row: RowShape) -> dict[str, int]:
  """Bytes of a row's media before and after merging: what a device would gather over seq, and what
  it does gather."""
  size = jax.numpy.dtype(model.llm.dtype).itemsize
  layout = model.layout()
  patches = (row.frames + row.images) * math.prod(model.encoder.grid) * model.encoder.width
  return dict(patches=patches * size, merged=layout.newline_index(row) * model.llm.width * size)


def travel(made: program.Program, setup: start.Setup) -> dict[str, Any]:
  """Bytes that each device receives in a step, by mesh axes and kind."""
  if made.error:
    return dict(bytes=None, error=made.error)
  return dict(bytes=collectives.totals(collectives.read(made.text, dict(setup.mesh.shape))))


def helps(memory: program.Memory, config, setup: start.Setup) -> list[str]:
  """The knobs that make a program smaller, the likeliest first."""
  mesh = setup.mesh.shape
  out = []
  held = memory.parameters + memory.optimizer
  if held > memory.temporary:
    out.append(f"more devices along config.mesh.fsdp={mesh['fsdp']}: parameters are the most")
  at_once = config["batch"] // (mesh["data"] * mesh["fsdp"] * setup.micro_batches)
  if at_once > 1:
    out.append(f"config.optim.accumulate=0: one row a device at a time instead of {at_once}")
  out.append(f"config.mesh.seq={2 * mesh['seq']}: half as many positions and frames on a device")
  if config["model"].get("encode_chunk", 0) != 1:
    out.append("a smaller config.model.encode_chunk: fewer clips encoded at a time")
  if config["model"]["llm"].get("remat") not in ("nothing",):
    out.append("config.model.llm.remat=nothing: keep only what enters a layer")
  return out


def spare(memory: program.Memory, usable: float, setup: start.Setup) -> list[str]:
  """The knob that uses what a program leaves free: fewer, larger parts of a step."""
  parts = setup.micro_batches
  fixed = memory.total - memory.temporary
  for fewer in range(1, parts):
    if parts % fewer == 0 and fixed + memory.temporary * parts / fewer < 0.9 * usable:
      return [
        f"config.optim.accumulate={fewer}: {parts // fewer} times as many rows at once should fit, "
        f"and weights are gathered in {fewer} instead of {parts} parts of a step"
      ]
  return []


def lines(found: Mapping[str, Any]) -> Iterator[str]:
  """A plan as text."""
  mesh = " ".join(f"{axis}={size}" for axis, size in found["mesh"].items())
  yield (
    f"{found['topology']}, {found['chips']} chips, mesh {mesh}, {found['batch']} rows a step in "
    f"{found['micro_batches']} parts, remat llm={found['remat']['llm']}, jax {found['jax']}"
  )
  for row in found["rows"]:
    yield ""
    yield from _row_lines(row, found)
  if "chip_hours" in found:
    yield f"{found['samples']:,} samples: at least {found['chip_hours']:,.0f} chip-hours"
  yield f"Assumed: {found['assumed']}."


def _row_lines(row: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
  memory = {kind: size / topology.GIB for kind, size in row["memory"].items()}
  flops = {part: count / 1e12 for part, count in row["flops"].items()}
  left = "".join(f" -> {n:,}" for n in row["room"])
  moved = row["collectives"]
  yield (
    f"Rows of {row['frames']} frames, {row['images']} images, {row['positions']:,}{left} positions"
  )
  kinds = ", ".join(f"{kind} {size:.2f}" for kind, size in memory.items() if kind != "total")
  lacks = row["lacks_bytes"] / topology.GIB
  usable = found["usable_bytes"] / topology.GIB
  yield (
    f"  memory  {memory['total']:.2f} of {usable:.2f} GiB a chip: "
    f"{'fits' if row['fits'] else f'DOES NOT FIT, by {lacks:.2f} GiB'} ({kinds})"
  )
  yield from (f"          try {text}" for text in row["helps"])
  yield (
    f"  FLOPs   {flops['model']:,.1f} T a row: encoder {flops['encoder']:,.1f}, merger "
    f"{flops['merger']:,.3f}, llm {flops['llm']:,.1f} (dropout saves {flops['dropped']:,.1f}); "
    f"computed again {flops['recomputed']:,.1f}"
  )
  if moved["bytes"] is None:
    yield f"  moved   unknown: {moved['error']}"
  else:
    for axes, kinds in sorted(moved["bytes"].items()):
      each = ", ".join(f"{kind} {size / 1e9:,.3f}" for kind, size in sorted(kinds.items()))
      yield f"  moved   GB a chip along {axes}: {each}"
  media = {kind: size / 1e9 for kind, size in row["visual"].items()}
  yield (
    f"  visual  {media['merged']:.3f} GB of merged tokens a row travel along seq, instead of "
    f"{media['patches']:.3f} GB of patches (by arithmetic)"
  )
  yield (
    f"  bound   {row['step_seconds']:.3f} s a step: at most {row['rows_per_second']:,.1f} rows, "
    f"{row['frames_per_second']:,.0f} frames a second (compiled in {row['compile_seconds']:.0f} s)"
  )
