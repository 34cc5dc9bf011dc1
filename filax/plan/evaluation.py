# SPDX-License-Identifier: Apache-2.0
"""The memory of an evaluation during training, compiled ahead of time.

Counted as an upper bound: the training state and a training batch stay where they are, and every
prompt of a batch is the longest one.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from data_pipelines.packing import visual_order
from filax.infer import compiled, decoding, encode, encode_long
from filax.infer import generate as generation
from filax.infer.lengths import LENGTHS, NEW, WORDS
from filax.infer.video import frame_unit
from filax.models.components import build_video_lm
from filax.models.video_lm import VideoLM
from filax.parallel import rules
from filax.plan import program
from filax.train.averages import copied_bytes
from filax.train.setup import Setup


class Placed(Protocol):
  """Parameters on a mesh: of a training setup, or for answers alone."""

  @property
  def mesh(self) -> jax.sharding.Mesh: ...

  @property
  def like(self) -> Any: ...  # With `params`: ShapeDtypeStructs with shardings.

  @property
  def replicated(self) -> NamedSharding: ...


@dataclasses.dataclass(frozen=True)
class EvaluationDemand:
  """What an entry of config.evals asks for beyond config.infer; 0 = nothing."""

  frames: int = 0
  max_new_tokens: int = 0


@dataclasses.dataclass(frozen=True)
class EvaluationShape:
  """Shapes of the programs that answer questions."""

  prompts: int  # At a time.
  frames: int  # Frames of a video that are encoded at once.
  positions: int  # Length of a prompt: a bucket of config.infer.lengths.
  table: int  # Rows of a prompt's visual table.
  room: tuple[int, ...]  # Positions after every stage of visual dropout.
  new_tokens: int  # A bucket.


def plan_evaluation(
  config: Mapping[str, Any], setup: Setup, demands: Sequence[EvaluationDemand], usable: float
) -> dict[str, Any]:
  """Bytes of the largest evaluation, by kind and by program.

  usable: bytes of a device. Raises ValueError if no bucket holds the largest prompt.
  """
  model = build_video_lm(config["model"], config["infer"]["selector"])
  shape = evaluation_shape(config, model, setup.mesh, demands)
  programs = compile_programs(setup, model, shape, _is_greedy(config))
  largest = max(programs.values(), key=_needed_bytes)
  sizes = {}
  code = 0.0
  seconds = 0.0
  error = ""
  for name, needs in programs.items():
    sizes[name] = _needed_bytes(needs)
    code += needs.program
    seconds += needs.seconds
    error = error or needs.error
  row = program.config_rows(config, setup.model)[-1]
  memory = dict(
    parameters=rules.device_bytes(setup.like.params),
    optimizer=setup.optimizer_bytes,
    batch=rules.device_bytes(program.batch_like(setup, config["batch"], row)),
    tables=_waiting_tables(model, shape, setup.mesh),
    temporary=largest.temporary + largest.arguments + copied_bytes(setup.optimizer, setup.like),
    program=code,
  )
  total = sum(memory.values())
  fits = not error and total <= usable
  return dict(
    **dataclasses.asdict(shape),
    programs=sizes,
    memory=memory | dict(total=total),
    fits=fits,
    lacks_bytes=max(0.0, total - usable),
    error=error,
    helps=[] if fits else smaller_evaluation(config, setup),
    compile_seconds=seconds,
  )


def _waiting_tables(model: VideoLM, shape: EvaluationShape, mesh: jax.sharding.Mesh) -> float:
  """Bytes of waiting visual tables on each device.

  On a mesh that divides a batch they wait on the host, but for the newest one.
  """
  waiting = 1 if mesh.shape["data"] * mesh.shape["fsdp"] > 1 else shape.prompts
  item_bytes = jnp.dtype(model.llm.dtype).itemsize
  return float(waiting * shape.table * model.llm.width * item_bytes)


def evaluation_shape(
  config: Mapping[str, Any],
  model: VideoLM,
  mesh: jax.sharding.Mesh,
  demands: Sequence[EvaluationDemand],
) -> EvaluationShape:
  """The largest shapes that config.evals can lead to."""
  infer = config["infer"]
  rows = mesh.shape["data"] * mesh.shape["fsdp"]
  frames = 0
  new_tokens = 0
  for demand in demands:
    frames = max(frames, demand.frames or infer["sampling"]["frames"])
    new_tokens = max(new_tokens, demand.max_new_tokens or infer["max_new_tokens"])
  unit = frame_unit(model)
  frames = math.ceil(frames / unit) * unit
  layout = model.layout()
  groups = model.selector.groups(frames)
  visual = len(visual_order.video_order(groups, layout))
  lengths = tuple(sorted({*infer["lengths"], *LENGTHS}))
  positions = compiled.bucket(visual + WORDS, lengths, "config.infer.lengths")
  counts = np.array([positions], np.int32)
  index = np.full((1, positions), -1)
  index[0, :visual] = 0
  _, room = generation.dropout_schedule(model, counts, index, positions, lengths)
  return EvaluationShape(
    prompts=math.ceil(config["evals_batch"] / rows) * rows,
    frames=_frames_at_once(model, frames),
    positions=positions,
    table=groups * layout.tokens_per_group + 1,
    room=room,
    new_tokens=compiled.bucket(new_tokens, NEW, "config.infer.max_new_tokens"),
  )


def _frames_at_once(model: VideoLM, frames: int) -> int:
  """Frames encoded at a time: long videos come in parts."""
  if not encode_long.can_stream(model):
    return frames
  unit = frame_unit(model)
  units = encode_long.LONG_BYTES // (model.encoder.size**2 * 3 * unit)
  return min(frames, max(1, units) * unit)


@dataclasses.dataclass(frozen=True)
class EvaluationProgram:
  """Bytes of a program beside the parameters."""

  arguments: float
  temporary: float
  program: float
  seconds: float
  error: str
  text: str = ""  # The compiled program.


def _needed_bytes(needs: EvaluationProgram) -> float:
  return needs.arguments + needs.temporary


def compile_programs(
  setup: Setup, model: VideoLM, shape: EvaluationShape, greedy: bool
) -> dict[str, EvaluationProgram]:
  """The programs of an evaluation by name.

  Decoding is left out if the prefill does not fit.
  """
  arguments = _encoder_arguments(setup, model, shape)
  encoder, _ = _compile(setup, encode.embed, model, arguments, {})
  return {"encode": encoder, **compile_answer(setup, model, shape, greedy)}


def compile_answer(
  setup: Placed, model: VideoLM, shape: EvaluationShape, greedy: bool
) -> dict[str, EvaluationProgram]:
  """The programs of the llm by name, as filax.infer.generate runs them.

  Decoding is left out if the prefill does not fit.
  """
  programs = {}
  llm = generation.language_model(model)
  arguments = _prompt_arguments(setup, model, shape)
  static: dict[str, Any] = dict(room=shape.room, spare=shape.new_tokens)
  programs["prefill"], outputs = _compile(setup, generation.prefill, llm, arguments, static)
  if outputs is not None:
    _, cache = outputs
    arguments = _decode_arguments(setup, llm, shape, cache)
    static = dict(steps=decoding.STEPS, greedy=greedy)
    programs["decode"], _ = _compile(
      setup, decoding.decode_chunk, llm, arguments, static, donated=(2,)
    )
  return programs


def _compile(
  setup: Placed,
  function: Callable,
  model: VideoLM,
  arguments: tuple,
  static: Mapping[str, Any],
  donated: tuple[int, ...] = (),
) -> tuple[EvaluationProgram, Any]:
  """(needs, outputs) of function(model, params, *arguments, **static).

  The outputs are shapes with shardings; None if it does not fit.
  """
  jitted = jax.jit(
    function, static_argnums=0, static_argnames=tuple(static), donate_argnums=donated
  )
  with jax.set_mesh(setup.mesh):
    lowered = jitted.lower(model, setup.like.params, *arguments, **static)
  done = program.compile_lowered(setup.mesh, lowered)
  needs = EvaluationProgram(
    arguments=rules.device_bytes(arguments),
    temporary=done.temporary,
    program=done.program,
    seconds=done.seconds,
    error=done.error,
    text=done.text,
  )
  if done.executable is None:
    return needs, None
  outputs = jax.tree.map(_with_sharding, lowered.out_info, done.executable.output_shardings)
  return needs, outputs


def _with_sharding(leaf: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _encoder_arguments(setup: Placed, model: VideoLM, shape: EvaluationShape) -> tuple:
  """Frames, mask and images of one video."""
  size = model.encoder.size
  return (
    _whole(setup, (1, shape.frames, size, size, 3), jnp.uint8),
    _whole(setup, (1, shape.frames), bool),
    _whole(setup, (1, 0, size, size, 3), jnp.uint8),
  )


def _prompt_arguments(setup: Placed, model: VideoLM, shape: EvaluationShape) -> tuple:
  """Tokens, lengths, visual tables, visual index and schedule of dropout."""
  rows = shape.prompts
  stages = len(model.stages)
  by_row = NamedSharding(setup.mesh, rules.partition_spec("batch"))
  tables = jax.ShapeDtypeStruct(
    (rows, shape.table, model.llm.width), jnp.dtype(model.llm.dtype), sharding=by_row
  )
  return (
    _whole(setup, (rows, shape.positions), jnp.int32),
    _whole(setup, (rows,), jnp.int32),
    tables,
    _whole(setup, (rows, shape.positions), jnp.int32),
    _whole(setup, (rows, stages, 1), jnp.int32),
  )


def _decode_arguments(setup: Placed, model: VideoLM, shape: EvaluationShape, cache: Any) -> tuple:
  """The state after a prefill, and the settings of sampling."""
  rows = _whole(setup, (shape.prompts,), jnp.int32)
  key = jax.eval_shape(jax.random.key, 0)
  shapes: dict[str, Any] = dict(  # Name of an array -> its shape.
    cache=cache,
    token=rows,
    count=rows,
    limit=rows,
    stopped=_whole(setup, (shape.prompts,), bool),
    step=rows,
    key=_whole(setup, (shape.prompts,), key.dtype),
    row=rows,
  )
  state = decoding.Decoding(**shapes)
  settings = decoding.sampling_settings(model, stop=(0, 0))

  def whole(leaf):
    return _whole(setup, leaf.shape, leaf.dtype)

  return state, jax.tree.map(whole, settings)


def _whole(setup: Placed, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
  """An array that every device holds whole."""
  return jax.ShapeDtypeStruct(shape, dtype, sharding=setup.replicated)


def _is_greedy(config: Mapping[str, Any]) -> bool:
  return config["infer"]["temperature"] == 0


def smaller_evaluation(config: Mapping[str, Any], setup: Setup) -> list[str]:
  """The knobs that make an evaluation smaller, the most likely first."""
  rows = setup.mesh.shape["data"] * setup.mesh.shape["fsdp"]
  knobs = []
  if config["evals_batch"] > rows:
    knobs.append(f"config.evals_batch={rows}: one prompt a device at a time")
  frames = config["infer"]["sampling"]["frames"]
  knobs.append(f"a smaller config.infer.sampling.frames than {frames}")
  if config["model"].get("encode_chunk", 0) != 1:
    knobs.append("a smaller config.model.encode_chunk: fewer clips encoded at a time")
  return knobs
