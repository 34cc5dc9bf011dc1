# SPDX-License-Identifier: Apache-2.0
"""Builds model, mesh, optimizer and shardings; restores or initialises the state."""

from collections.abc import Callable, Hashable, Mapping, Sequence
import copy
import dataclasses
import functools
import json
from typing import Any

from etils import epath
import jax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import PyTree

from filax import settings
from filax.checkpoint import store
from filax.checkpoint.config_changes import changed_settings, shown_config
from filax.checkpoint.store import say
from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.models import components
from filax.models.adapted import Adaptation, adaptation
from filax.parallel import mesh as mesh_lib
from filax.parallel import rules
from filax.spec import RowShape
from filax.train import first_params, memory_fit, optim, step
from filax.train.chips import usable_bytes
from filax.train.memory_estimate import Policy, StepFacts
from filax.train.state import TrainState, create_state, state_shardings

_OF_THE_STATE = ("model", "lora", "optim")  # Settings that decide the arrays of a state.

Config = Mapping[str, Any]  # Nested dicts.


@dataclasses.dataclass(frozen=True)
class Setup:
  """Model, mesh, optimizer and layouts of a run.

  Nothing in it is computed on a device.
  """

  model: Any
  mesh: Mesh
  optimizer: optim.Optimizer
  adaptation: Adaptation  # By config.lora.
  like: TrainState  # ShapeDtypeStructs with shardings.
  replicated: NamedSharding  # All of an array on every device.
  micro_batches: int  # One after the other in a step.
  steps: int  # Of the schedule.
  fit: memory_fit.Fit | None = None  # The choice for settings that are "auto".

  @property
  def optimizer_bytes(self) -> float:
    """Bytes of moments and averages on each device."""
    return rules.device_bytes((self.like.opt, self.like.average))


def prepare(
  config: Config,
  steps: int,
  devices: Sequence[jax.Device] | None = None,
  device_bytes: float = 0.0,
  earlier: Config | None = None,
) -> Setup:
  """Builds and checks the setup of a config for `steps` updates.

  devices: those of config.mesh; default: all devices. device_bytes: of one of them, for settings
  that are "auto"; default: what it states. earlier: the config of the run's start before, whose
  choices are kept. Raises ValueError naming the knob.
  """
  check_training_settings(config)
  mesh = mesh_lib.make_mesh(config["mesh"], devices)
  parts = micro_batches(config, mesh)
  model = components.build_video_lm(config["model"])
  adapted = adaptation(model, config.get("lora"))
  shapes = adapted.shapes(components.parameter_shapes(model))
  shapes = optim.float32_where_trained(config["optim"], shapes)
  layout = rules.parameter_shardings(components.dims_table(config["model"]), shapes, mesh)
  kernels = components.dense_kernels(model) if config["optim"].get("kind") == "muon" else {}
  optimizer = optim.make_optimizer(config["optim"], shapes, steps, kernels)
  adapted.check_rates(optimizer.rates)
  replicated = NamedSharding(mesh, jax.P())
  like = jax.eval_shape(lambda params: create_state(params, optimizer, 0), shapes)
  shardings = state_shardings(shapes, layout, optimizer, replicated)
  like = jax.tree.map(_with_sharding, like, shardings)
  setup = Setup(model, mesh, optimizer, adapted, like, replicated, parts, steps)
  if not settings_left_open(config).any:
    return setup
  return _with_choice(setup, config, device_bytes or usable_bytes(list(mesh.devices.flat)), earlier)


def settings_left_open(config: Config) -> memory_fit.Open:
  """The settings of recomputation and micro-batches, "auto" or not."""
  accumulate = config["optim"]["accumulate"]
  return memory_fit.Open(
    encoder=config["model"]["encoder"].get("remat", "none"),
    llm=config["model"]["llm"].get("remat", "none"),
    parts=None if accumulate == memory_fit.AUTO else accumulate,
  )


def _with_choice(
  setup: Setup, config: Config, device_bytes: float, earlier: Config | None
) -> Setup:
  """A setup whose open settings are chosen."""
  wanted = settings_left_open(config)
  if wanted.parts is not None:
    wanted = dataclasses.replace(wanted, parts=setup.micro_batches)
  facts = step_facts(config, setup)
  before = None if earlier is None else _earlier_choice(earlier)
  fit = memory_fit.keep_or_choose(facts, wanted, device_bytes, before)
  model = memory_fit.with_policies(setup.model, fit.policy)
  return dataclasses.replace(setup, model=model, micro_batches=fit.policy.parts, fit=fit)


def step_facts(config: Config, setup: Setup) -> StepFacts:
  """What the memory of the config's step depends on."""
  rows = []
  for frames, images, length, segments in config["data"]["rows"]:
    rows.append(RowShape(frames, images, length, segments))
  return StepFacts(
    model=setup.model,
    shapes=setup.like.params,
    rates=setup.optimizer.rates,
    mesh=dict(setup.mesh.shape),
    rows=rows,
    batch=config["batch"],
    state_bytes=rules.device_bytes(setup.like.params) + setup.optimizer_bytes,
    loss_chunk=config["optim"]["loss_chunk"],
  )


def _earlier_choice(config: Config) -> Policy | None:
  """The choice in the config of an earlier start; None without one."""
  wanted = settings_left_open(config)
  if wanted.any or not wanted.parts:
    return None
  return Policy(wanted.encoder, wanted.llm, wanted.parts)


def resolved_config(config: Config, setup: Setup) -> dict[str, Any]:
  """A config whose "auto" settings are those of its setup."""
  resolved = copy.deepcopy(dict(config))
  if setup.fit is None:
    return resolved
  policy = setup.fit.policy
  for role, remat in (("encoder", policy.encoder), ("llm", policy.llm)):
    if resolved["model"][role].get("remat") == memory_fit.AUTO:
      resolved["model"][role]["remat"] = remat
  if resolved["optim"]["accumulate"] == memory_fit.AUTO:
    resolved["optim"]["accumulate"] = policy.parts
  return resolved


def _with_sharding(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def check_training_settings(config: Config) -> None:
  """Raises ValueError naming the first invalid setting outside config.data.

  A pipeline checks config.data itself, and rows may come from elsewhere.
  """
  settings.check_settings({key: value for key, value in config.items() if key != "data"})


def train_step(config: Config, setup: Setup) -> jax.stages.Wrapped:
  """The jitted step(state, batch) -> (state, metrics).

  It reuses the memory of its state.
  """
  options = config["optim"]
  dropout = setup.adaptation.dropout
  loss = step.make_loss(setup.model, options["reduction"], options["loss_chunk"], dropout)
  return jax.jit(
    step.make_train_step(loss, setup.optimizer, setup.micro_batches),
    donate_argnums=0,
    out_shardings=(_shardings(setup.like), setup.replicated),
  )


@dataclasses.dataclass(frozen=True)
class StepProgram:
  """A training step; equal ones are the same program.

  Of two runs in one process, such as the seeds of a study, the second one need not trace again.
  """

  key: Hashable  # All that the step depends on.
  config: Config = dataclasses.field(compare=False)
  setup: Setup = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=4)  # Programs take memory of the devices while they are kept.
def _kept_step(program: StepProgram) -> jax.stages.Wrapped:
  return train_step(program.config, program.setup)


def kept_train_step(config: Config, setup: Setup) -> jax.stages.Wrapped:
  """A `train_step`, shared by runs of the same program.

  The newest programs of this process are kept.
  """
  leaves, structure = jax.tree.flatten(setup.like)
  optim_text = json.dumps(config["optim"], sort_keys=True)
  key = (
    optim_text,
    setup.steps,
    setup.model,
    setup.adaptation.dropout,
    setup.mesh,
    setup.micro_batches,
    structure,
    tuple(leaves),
  )
  return _kept_step(StepProgram(key, config, setup))


def _shardings(tree: PyTree) -> PyTree:
  return jax.tree.map(lambda x: x.sharding, tree)


def micro_batches(config: Config, mesh: Mesh) -> int:
  """The number of micro-batches of a step.

  config.optim.accumulate; if that is 0, as many as give every device one row at a time, and if it
  is "auto", 1 for now. Raises ValueError if the rows of a batch do not split over devices and
  micro-batches.
  """
  data = mesh.shape["data"]
  fsdp = mesh.shape["fsdp"]
  batch = config["batch"]
  accumulate = config["optim"]["accumulate"]
  if accumulate == memory_fit.AUTO:
    accumulate = 1
  parts = accumulate or max(1, batch // (data * fsdp))
  if parts < 1 or batch < 1 or batch % (data * fsdp * parts):
    raise ValueError(
      f"config.batch={batch} rows do not split over config.mesh.data={data} x "
      f"config.mesh.fsdp={fsdp} devices and config.optim.accumulate={parts} micro-batches. Set "
      f"config.batch to a multiple of {data * fsdp * max(parts, 1)}, or change config.mesh."
    )
  return parts


def initial_state(
  config: Config,
  setup: Setup,
  saved: store.Checkpoints,
  fingerprint: str,
  changes: Callable[[str], str] | None = None,
) -> tuple[TrainState, int]:
  """(the state to start from, the next global row of data).

  changes: fingerprint of a checkpoint's plan -> the changes since then, in words.

  In this order:

  1. The newest good checkpoint of the workdir: resume. A checkpoint of adapters is completed from
     its base.
  2. config.init_from: its parameters; missing ones are drawn from config.seed.
  3. Neither: all parameters are drawn from config.seed.
  """
  try:
    restored = saved.restore(setup.like)
  except store.OtherArrays as error:
    raise ValueError(_refusal(error, config)) from error
  if restored is not None:
    check_plan(restored, fingerprint, config["ignore_fingerprint"], changes)
    check_alpha(restored, config)
    say(f"Resuming at step {restored.step}, row {restored.row}.")
    report_changes(restored.config, json.loads(json.dumps(config)), saved.folder.parent)
    state = restored.state
    if restored.base is not None:
      params = first_params.complete_from_base(restored, setup.like.params, setup.adaptation, saved)
      state = dataclasses.replace(state, params=params)
    return state, restored.row - restored.row % config["batch"]
  leaves = {}
  if config["init_from"]:
    leaves = first_params.read_start(
      config["init_from"], setup.like.params, setup.adaptation, setup.optimizer.rates, saved
    )
    first_params.report_other_settings(config["init_from"], config["model"])
  return complete_state(config["seed"], setup, unflatten_tree(leaves)), 0


def say_if_done(first: int, steps: int, configured: int) -> None:
  """Says that a run has no step to do.

  first: the steps that it has done. configured: config.steps; 0 where config.epochs counts.
  """
  if first >= steps:
    knob = "config.steps" if configured else "config.epochs"
    say(f"{knob} ends at step {steps}, and this run is at step {first}: raise it to go on.")


def complete_state(seed: int, setup: Setup, params: PyTree) -> TrainState:
  """A first state with `params`; missing parameters are drawn from `seed`."""
  present = flatten_tree(params)
  absent = {}
  for path, leaf in flatten_tree(setup.like.params).items():
    if path not in present:
      absent[path] = leaf
  drawn = first_params.draw_missing(seed, setup.model, setup.adaptation, absent)
  params = unflatten_tree(drawn | present)
  rest = dataclasses.replace(setup.like, params=None)
  create_rest = jax.jit(
    functools.partial(_state_without_params, setup.optimizer, seed), out_shardings=_shardings(rest)
  )
  return dataclasses.replace(create_rest(params), params=params)


def _state_without_params(optimizer: optim.Optimizer, seed: int, params: PyTree) -> TrainState:
  return dataclasses.replace(create_state(params, optimizer, seed), params=None)


def check_plan(
  restored: store.Restored,
  fingerprint: str,
  ignore: bool,
  changes: Callable[[str], str] | None = None,
) -> None:
  """Raises ValueError for a checkpoint of another plan, unless `ignore`.

  changes: as in `initial_state`.
  """
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


def check_alpha(restored: store.Restored, config: Config) -> None:
  """Raises ValueError if alpha of trained adapters has changed."""
  before = (restored.config.get("lora") or {}).get("alpha")
  now = (config.get("lora") or {}).get("alpha")
  if before != now and (config.get("lora") or {}).get("ranks"):
    raise ValueError(
      f"config.lora.alpha={now}, but the adapters of step {restored.step} were trained with "
      f"{before}. Restore it, or use another --workdir."
    )


def _refusal(error: store.OtherArrays, config: Config) -> str:
  """The error message for a checkpoint of another config."""
  now = json.loads(json.dumps(config))
  changes: list[str] = []
  for group in _OF_THE_STATE:
    changes += changed_settings(error.config.get(group), now.get(group), f"config.{group}")
  reason = f"{', '.join(changes)} ({error})" if changes else str(error)
  return (
    f"{error.step} is not of this config: {reason}. Restore the config, use another --workdir, or "
    f"start there from these parameters with config.init_from={error.step}."
  )


def report_changes(before: Any, after: Any, workdir: epath.Path) -> None:
  """Prints the settings that changed since the checkpoint.

  Also those of config.json that somebody has edited: it is written anew.
  """
  changes = list(changed_settings(before, after, "config"))
  for change in changes:
    say(f"  {change}.")
  shown = shown_config(workdir)
  edited = [] if shown is None else changed_settings(shown, after, "config")
  lost = [edit for edit in edited if edit not in changes]
  if lost:
    say(
      f"{workdir}/config.json is written anew, and its own settings do not count: "
      f"{', '.join(lost)}. Set them in the config of this run."
    )
