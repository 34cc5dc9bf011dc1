# SPDX-License-Identifier: Apache-2.0
"""Answering questions about videos on a TPU slice, compiled ahead of time.

The llm's programs are those of filax.infer.generate, on the mesh of filax.load with
mesh="parameters". The cache lies as the compiled prefill hands it to the compiled decoding.
"""

from collections.abc import Iterator, Mapping, Sequence
import copy
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from filax.infer import decoding
from filax.infer import generate as generation
from filax.infer.device_mesh import PARAMETERS, make_device_mesh
from filax.models import components
from filax.models.video_lm import VideoLM
from filax.parallel import mesh as mesh_lib
from filax.parallel import rules
from filax.plan import collectives, evaluation, topology
from filax.plan.prefill import PrefillCosts
from filax.plan.traffic import loop_bytes

ASSUMED = (
  "parameters in the compute dtype; a token reads the llm's weights and its whole cache once, at "
  "the HBM's bandwidth, or does its arithmetic at the chip's peak, whichever takes longer; the "
  "prefill does its arithmetic at the peak; reading and encoding the video are left out"
)


@dataclasses.dataclass(frozen=True)
class ServingState:
  """The parameters on a mesh, as programs take them."""

  params: Any  # ShapeDtypeStructs with shardings.


@dataclasses.dataclass(frozen=True)
class Serving:
  """A model on the devices of a slice, as `evaluation.Placed`."""

  model: VideoLM
  mesh: Mesh
  like: ServingState
  replicated: NamedSharding


def plan_serving(
  config: Mapping[str, Any],
  slice_: topology.Topology,
  frames: Sequence[int],
  dropouts: Sequence[str],
  prompts: int = 1,
) -> dict[str, Any]:
  """Memory, bytes and bounds of answers about videos of `frames` frames.

  dropouts: values of config.model.llm.dropout. prompts: answered at a time. Raises ValueError for
  an invalid config.
  """
  rows = []
  mesh: Mapping[str, int] = {}
  for dropout in dropouts:
    variant = _variant(config, dropout, prompts)
    serving = prepare_serving(variant, slice_.devices())
    mesh = dict(serving.mesh.shape)
    for count in frames:
      rows.append(_row_plan(variant, serving, slice_, count))
  return dict(
    topology=str(slice_),
    chips=slice_.chips,
    usable_bytes=slice_.chip.hbm,
    mesh=mesh,
    jax=jax.__version__,
    assumed=ASSUMED,
    rows=rows,
    fits=all(row["fits"] for row in rows),
  )


def _variant(config: Mapping[str, Any], dropout: str, prompts: int) -> dict[str, Any]:
  """A config for inference with this dropout."""
  variant = copy.deepcopy(dict(config))
  variant["model"]["llm"]["dropout"] = dropout
  variant["model"]["param_dtype"] = variant["model"]["dtype"]
  variant["evals_batch"] = prompts
  return variant


def prepare_serving(config: Mapping[str, Any], devices: Sequence[jax.Device]) -> Serving:
  """A model on devices, its parameters split as far as possible."""
  model = components.build_video_lm(config["model"], config["infer"]["selector"])
  mesh = make_device_mesh(PARAMETERS, config["model"], devices)
  if mesh is None:  # One device, or parameters that do not split: a copy on each.
    mesh = mesh_lib.make_mesh(dict(data=-1), devices)
  shapes = components.parameter_shapes(model)
  layout = rules.parameter_shardings(components.dims_table(config["model"]), shapes, mesh)
  params = jax.tree.map(_placed, shapes, layout)
  return Serving(model, mesh, ServingState(params), NamedSharding(mesh, jax.P()))


def _placed(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _row_plan(
  config: Mapping[str, Any], serving: Serving, slice_: topology.Topology, frames: int
) -> dict[str, Any]:
  """The plan of answers about videos of one length."""
  model = serving.model
  demand = evaluation.EvaluationDemand(frames, 0)
  shape = evaluation.evaluation_shape(config, model, serving.mesh, [demand])
  greedy = config["infer"]["temperature"] == 0
  programs = evaluation.compile_answer(serving, model, shape, greedy)
  memory = _memory(serving, model, shape, programs)
  total = sum(memory.values())
  error = next((program.error for program in programs.values() if program.error), "")
  fits = not error and total <= slice_.chip.hbm
  needs_context = shape.positions > generation.context_length(model)
  return dict(
    frames=frames,
    dropout=config["model"]["llm"]["dropout"],
    prompts=shape.prompts,
    positions=shape.positions,
    room=list(shape.room),
    new_tokens=shape.new_tokens,
    memory=memory | dict(total=total),
    fits=fits,
    lacks_bytes=max(0.0, total - slice_.chip.hbm),
    error=error,
    helps=[] if fits else list(_helps(config, serving, slice_)),
    beyond_context=needs_context,
    prefill=_prefill_bound(model, shape, slice_),
    token=_token_bound(serving, shape, programs, slice_),
    compile_seconds=sum(program.seconds for program in programs.values()),
  )


def _memory(
  serving: Serving,
  model: VideoLM,
  shape: evaluation.EvaluationShape,
  programs: Mapping[str, evaluation.EvaluationProgram],
) -> dict[str, float]:
  """Bytes of a chip, by kind, while the largest program runs."""
  working = 0.0
  code = 0.0
  for program in programs.values():
    working = max(working, program.arguments + program.temporary)
    code += program.program
  table = shape.prompts * shape.table * model.llm.width * jnp.dtype(model.llm.dtype).itemsize
  return dict(
    parameters=rules.device_bytes(serving.like.params),
    table=float(table) / (serving.mesh.shape["data"] * serving.mesh.shape["fsdp"]),
    cache=_cache_bytes(programs),
    working=working - _cache_bytes(programs),
    program=code,
  )


def _cache_bytes(programs: Mapping[str, evaluation.EvaluationProgram]) -> float:
  """Bytes of the cache; 0 if decoding was not compiled."""
  return programs["decode"].arguments if "decode" in programs else 0.0


def _prefill_bound(
  model: VideoLM, shape: evaluation.EvaluationShape, slice_: topology.Topology
) -> dict[str, float]:
  """FLOPs of reading the prompts, padding included, and their least seconds."""
  costs = PrefillCosts(model).costs
  flops = costs.head
  for (first, stop), length in zip(model.llm.ranges, (shape.positions, *shape.room), strict=True):
    share = (stop - first) / model.llm.depth
    flops += share * ((costs.token - costs.head) * length + costs.pair * length**2 / 2)
  flops *= shape.prompts
  return dict(flops=flops, seconds=flops / (slice_.chips * slice_.chip.flops))


def _token_bound(
  serving: Serving,
  shape: evaluation.EvaluationShape,
  programs: Mapping[str, evaluation.EvaluationProgram],
  slice_: topology.Topology,
) -> dict[str, float | None] | None:
  """Bytes that a chip reads for a token, and the least seconds.

  `touched`: what the compiled loop reads and writes. None if decoding was not compiled.
  """
  if "decode" not in programs:
    return None
  model = serving.model
  weights = _read_weights(serving)
  cache = _cache_bytes(programs)
  costs = PrefillCosts(model).costs
  flops = costs.token
  for (first, stop), length in zip(model.llm.ranges, (shape.positions, *shape.room), strict=True):
    flops += costs.pair * (stop - first) / model.llm.depth * (length + shape.new_tokens)
  flops *= shape.prompts / slice_.chips
  text = programs["decode"].text
  moves = collectives.read_collectives(text, dict(serving.mesh.shape))
  moved = sum(move.bytes for move in moves) / decoding.STEPS  # The program gives this many tokens.
  reading = (weights + cache) / slice_.chip.memory
  seconds = max(reading, flops / slice_.chip.flops, moved / slice_.chip.link)
  return dict(
    weights=weights,
    cache=cache,
    bytes=weights + cache,
    touched=loop_bytes(text) if text else None,
    flops=flops,
    moved=moved,
    seconds=seconds,
    tokens_per_second=shape.prompts / seconds,
  )


def _read_weights(serving: Serving) -> float:
  """Bytes of the llm's parameters on a chip that a token reads.

  Of an embedding table that is not the head as well, it reads one row.
  """
  llm = dict(serving.like.params["llm"])
  if "lm_head" in llm:
    llm.pop("embed_tokens")
  return rules.device_bytes(llm)


def _helps(config: Mapping[str, Any], serving: Serving, slice_: topology.Topology) -> Iterator[str]:
  """The knobs that make an answer smaller, the most likely first."""
  if config["model"]["llm"]["dropout"] == "off":
    yield "config.model.llm.dropout=uniform0_attention: later layers cache a quarter of the video"
  rows = serving.mesh.shape["data"] * serving.mesh.shape["fsdp"]
  if config["evals_batch"] > rows:
    yield f"--prompts {rows}: one prompt a group of devices at a time"
  tensor = serving.mesh.shape["tensor"]
  heads = math.gcd(serving.model.llm.heads, 2 * tensor)
  if heads > tensor:
    yield f"a larger slice than {slice_}: it splits cache and weights further"
  else:
    yield "a kind of chip with more memory (v6e, v5p): key and value heads split no further"
  yield "fewer frames (--frames)"
