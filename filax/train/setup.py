# SPDX-License-Identifier: Apache-2.0
"""What is fixed before the first step, and the state that a run starts from."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import PyTree

from filax import settings
from filax.checkpoint import store
from filax.checkpoint.store import say
from filax.models import components
from filax.parallel import mesh as mesh_lib
from filax.parallel import rules
from filax.train import optim, state, step


@dataclasses.dataclass(frozen=True)
class Setup:
  """Model, mesh, optimizer and layouts of a run. Nothing in it is computed on a device."""

  model: Any
  mesh: Mesh
  optimizer: optim.Optimizer
  like: state.TrainState  # ShapeDtypeStructs with shardings.
  whole: NamedSharding  # On every device.
  micro_batches: int  # One after the other in a step.


def prepare(
  config: Mapping[str, Any], steps: int, devices: Sequence[jax.Device] | None = None
) -> Setup:
  """Builds and checks what config says, for `steps` updates on `devices` (default: all there are).

  Raises ValueError naming the knob.
  """
  check_settings(config)
  mesh = mesh_lib.make(config["mesh"], devices)
  parts = micro_batches(config, mesh)
  model = components.build_video_lm(config["model"])
  shapes = components.parameter_shapes(model)
  layout = rules.parameter_shardings(components.dims_table(config["model"]), shapes, mesh)
  optimizer = optim.make(config["optim"], shapes, steps)
  whole = NamedSharding(mesh, jax.P())
  like = jax.eval_shape(lambda params: state.create(params, optimizer, 0), shapes)
  like = jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    like,
    state.shardings(shapes, layout, optimizer, whole),
  )
  return Setup(model, mesh, optimizer, like, whole, parts)


def check_settings(config: Mapping[str, Any]) -> None:
  """Raises ValueError naming the first setting that is invalid.

  config.data is not looked at: a pipeline checks its own, and rows may come from elsewhere.
  """
  settings.check({key: value for key, value in config.items() if key != "data"})


def train_step(config: Mapping[str, Any], setup: Setup) -> Callable:
  """The jitted step(state, batch) -> (state, metrics), which reuses the memory of its state."""
  options = config["optim"]
  loss = step.make_loss(setup.model, options["reduction"], options["loss_chunk"])
  return jax.jit(
    step.make_train_step(loss, setup.optimizer, setup.micro_batches),
    donate_argnums=0,
    out_shardings=(jax.tree.map(lambda x: x.sharding, setup.like), setup.whole),
  )


def micro_batches(config: Mapping[str, Any], mesh: Mesh) -> int:
  """config.optim.accumulate; if that is 0, as many as give every device one row at a time.

  Raises ValueError if the rows of a batch do not split over devices and micro-batches.
  """
  data, fsdp, parts = mesh.shape["data"], mesh.shape["fsdp"], config["optim"]["accumulate"]
  parts = parts or max(1, config["batch"] // (data * fsdp))
  if parts < 1 or config["batch"] < 1 or config["batch"] % (data * fsdp * parts):
    raise ValueError(
      f"config.batch={config['batch']} rows do not split over config.mesh.data={data} x "
      f"config.mesh.fsdp={fsdp} devices and config.optim.accumulate={parts} micro-batches. Set "
      f"config.batch to a multiple of {data * fsdp * max(parts, 1)}, or change config.mesh."
    )
  return parts


def start(
  config: Mapping[str, Any],
  setup: Setup,
  saved: store.Checkpoints,
  fingerprint: str,
  changes: Callable[[str], str] | None = None,
) -> tuple[state.TrainState, int]:
  """The state to go on from, and the global row of data that comes next.

  changes: the fingerprint of a checkpoint's plan -> what is different now, in words.

  1. The newest good checkpoint of the workdir: resume.
  2. config.init_from: its parameters; what it lacks is drawn from config.seed.
  3. Neither: all parameters are drawn from config.seed.
  """
  if restored := saved.restore(setup.like):
    check_plan(restored, fingerprint, config["ignore_fingerprint"], changes)
    say(f"Resuming at step {restored.step}, row {restored.row}.")
    _say_changes(restored.config, json.loads(json.dumps(config)))
    return restored.state, restored.row - restored.row % config["batch"]
  params = {}
  if source := config["init_from"]:
    params, missing, extra = store.restore_params(source, setup.like.params)
    say(f"Starting from the parameters of {source}.")
    for name in missing:
      say(f"  not in it, drawn anew: {name}")
    for name in extra:
      say(f"  in it, not used: {name}")
  return create(config["seed"], setup, params), 0


def create(seed: int, setup: Setup, params: PyTree) -> state.TrainState:
  """A state whose parameters are `params` where they exist, and drawn from `seed` elsewhere."""
  given = store.flat(params)
  lacking = {k: x for k, x in store.flat(setup.like.params).items() if k not in given}

  def draw(key, batch):
    drawn = store.flat(setup.model.init(key, batch)["params"])
    return {path: drawn[path] for path in lacking}

  sharding = lambda tree: jax.tree.map(lambda x: x.sharding, tree)
  draw = jax.jit(draw, out_shardings=sharding(lacking))
  drawn = draw(jax.random.key(seed), setup.model.example()) if lacking else {}
  params = store.nest(drawn | given)
  rest = lambda params: state.create(params, setup.optimizer, seed).replace(params=None)
  made = jax.jit(rest, out_shardings=sharding(setup.like.replace(params=None)))(params)
  return made.replace(params=params)


def check_plan(
  restored: store.Restored,
  fingerprint: str,
  ignore: bool,
  changes: Callable[[str], str] | None = None,
) -> None:
  """Raises ValueError rather than go on in the middle of another plan of rows."""
  if restored.fingerprint == fingerprint or ignore:
    return
  different = changes(restored.fingerprint) if changes else ""
  raise ValueError(
    f"The checkpoint of step {restored.step} stands at row {restored.row} of plan "
    f"{restored.fingerprint[:12]}, but config.data now gives plan {fingerprint[:12]}: "
    f"{different or 'samples, order or packing changed'}. Restore config.data and config.batch and "
    "their files, use another --workdir, or set config.ignore_fingerprint=True to go on at row "
    f"{restored.row} of the new plan."
  )


def _say_changes(before: Any, after: Any, path: str = "config") -> None:
  """Names what a resumed run does differently from the one that wrote its checkpoint."""
  if isinstance(before, Mapping) and isinstance(after, Mapping):
    for key in sorted(before.keys() & after.keys()):
      _say_changes(before[key], after[key], f"{path}.{key}")
    for key in sorted(after.keys() - before.keys()):
      say(f"  {path}.{key} is new: {after[key]}.")
    for key in sorted(before.keys() - after.keys()):
      say(f"  {path}.{key} was {before[key]} and is gone.")
  elif before != after:
    say(f"  {path} was {before} and is {after}.")
