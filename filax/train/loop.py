# SPDX-License-Identifier: Apache-2.0
"""A training run, from first step to last.

The loop dispatches a step to the devices. While the step runs, it fetches the next rows and looks
at the metrics of the step before. Then it saves if a checkpoint is due, evaluates if a hook wants
to, and saves again if the score is the best so far. The devices have a queue of two steps. If a
step takes long, the queue has one, so that a run that is stopped need not wait for a second step.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import functools
import json
import math
import time
from typing import Any

from etils import epath
import jax

from filax import compilation_cache
from filax.checkpoint import storage, store
from filax.checkpoint.lease import Lease
from filax.checkpoint.store import say
from filax.parallel import agreement, ending, key_value
from filax.train import averages, batches, chips, goodput, metrics, plan_record, profiler
from filax.train.batches import BatchSource
from filax.train.fetch import Fetcher
from filax.train.hooks import COMPILE, SAVE, Hook, HookList, RunFacts
from filax.train.setup import (
  Config,
  Setup,
  check_training_settings,
  initial_state,
  kept_train_step,
  prepare,
  resolved_config,
  say_if_done,
  settings_left_open,
)
from filax.train.signals import Signals
from filax.train.state import TrainState
from filax.train.step_bar import StepBar
from filax.train.supervision import Supervision
from filax.train.tracker import MetricsLog, Tracker, open_log, read_scores
from filax.train.watchdog import Watchdog
from filax.train.workdir import Publisher

_LONG_STEP_SECONDS = 5.0  # A step is not queued behind one that takes longer.
_COMPILE_SECONDS = 24 * 3600.0  # Longest wait for the slowest process to compile.

DeviceMetrics = Mapping[str, jax.Array]  # Scalars that may still be computed.


class NonFinite(ValueError):
  """The loss or the gradient is not a number."""


def train_pipeline(
  config,
  workdir: epath.PathLike,
  pipeline: BatchSource,
  costs: Callable[..., metrics.Costs] | None = None,
  devices: Sequence[jax.Device] | None = None,
  ingredients: plan_record.Parts | None = None,
  lease: Lease | None = None,
  signals: Signals | None = None,
  hooks: Sequence[Hook] = (),
  clock: goodput.PhaseClock | None = None,
) -> dict[str, Any]:
  """Trains config.model on the rows of `pipeline`.

  The same call starts, resumes and finishes a run: steps of earlier calls are not repeated.
  config: a ConfigDict (configs/common.py). workdir: receives checkpoints/, config.json,
  metrics.jsonl and tensorboard/. costs: costs(model, shapes, rates) are the FLOPs that MFU counts.
  devices: those of config.mesh (default: all devices). ingredients: those of the pipeline's plan,
  the same in all processes; the workdir keeps them to name later changes. lease: checked before
  each write. signals, clock: these are active already. hooks: called after the built-in ones.

  Returns Tracker.summary and the newest checkpoint. Raises ValueError for an invalid config or
  steps without a supervised token, NonFinite naming the step, and lease.Lost after a take-over.
  """
  config = config.to_dict()
  compilation_cache.enable()
  clock = clock or goodput.PhaseClock()
  with contextlib.ExitStack() as stack:
    compilations = stack.enter_context(metrics.Compilations())
    steps, parts = agree_on_plan(config, pipeline, ingredients or {})
    config, setup = choose_open_settings(config, workdir, steps, devices)
    check_lease = lease.check_before_save if lease else _no_lease
    best = config.get("best", "")
    saved = stack.enter_context(store.Checkpoints(workdir, config["keep"], check_lease, best))
    stack.enter_context(ending.together())  # Errors from here on end all processes.
    changes = functools.partial(plan_record.describe_changes, workdir, parts)
    with clock.timed(goodput.RESTORE):
      state, row = initial_state(config, setup, saved, pipeline.fingerprint, changes)
    write_start(workdir, config, pipeline.fingerprint, parts, check_lease)
    del ingredients, parts, changes  # With a text for every medium.
    say_if_done(int(jax.device_get(state.step)), steps, config["steps"])
    stack.enter_context(jax.set_mesh(setup.mesh))  # Later than `_draw`, whose row does not split.
    run = RunFacts(workdir, config, setup, int(jax.device_get(state.step)), steps)
    publisher = stack.enter_context(Publisher(workdir, lease.check_held if lease else _no_lease))
    log = stack.enter_context(open_log(run, publisher))
    saved.recover_best(functools.partial(read_scores, workdir))
    tracker = make_tracker(run, log, make_meter(run, costs, compilations), clock, publisher)
    if signals is None:
      signals = stack.enter_context(Signals())
    signals.defer()
    fetcher = stack.enter_context(Fetcher(batches.open_batches(pipeline, setup.mesh, row)))
    stack.enter_context(jax.transfer_guard("disallow"))
    all_hooks = HookList([*default_hooks(config, tracker), *hooks])
    loop = Loop(run, saved, pipeline.fingerprint, signals, all_hooks, clock)
    stack.enter_context(ending.together())
    with all_hooks.running(run):
      state, row = loop.train(state, row, fetcher)
      summary = tracker.summary(signals.ended_block)
      loop.save_last_step(state, row)
    return summary | dict(checkpoint=str(saved.latest() or ""), seconds_by_phase=clock.seconds())


def agree_on_plan(
  config: Config, pipeline: BatchSource, ingredients: plan_record.Parts
) -> tuple[int, plan_record.Parts]:
  """(steps, parts of the plan), checked and compared between all processes.

  Raises ValueError.
  """
  check_training_settings(config)
  steps = count_steps(config, pipeline)
  parts = plan_record.plan_parts(config, steps, pipeline.fingerprint, ingredients)
  agreement.require_equal(parts)
  return steps, parts


def choose_open_settings(
  config: Config, workdir: epath.PathLike, steps: int, devices: Sequence[jax.Device] | None
) -> tuple[Config, Setup]:
  """The config with a choice for every "auto", and its setup.

  The choice is printed. A run that resumes keeps the choice of its checkpoint if it fits.
  """
  earlier = store.agreed_config(workdir) if settings_left_open(config).any else None
  setup = prepare(config, steps, devices, device_bytes(devices), earlier)
  if setup.fit is not None:
    say(f"Chosen: {setup.fit.line()}")
  return resolved_config(config, setup), setup


def device_bytes(devices: Sequence[jax.Device] | None) -> float:
  """The memory of the smallest device of all processes."""
  usable = chips.usable_bytes(jax.devices() if devices is None else devices)
  return min(map(float, agreement.share_texts(repr(usable))))


def count_steps(config: Config, pipeline: BatchSource) -> int:
  """The steps of config.steps or config.epochs.

  Raises ValueError if there are none.
  """
  steps = config["steps"] or pipeline.steps(config["epochs"])
  if steps < 1:
    raise ValueError("There is no full batch. Lower config.batch or add to config.data.train.")
  return steps


def write_start(
  workdir: epath.PathLike,
  config: Config,
  fingerprint: str,
  parts: plan_record.Parts,
  check_lease: Callable[[], None],
) -> None:
  """Writes the parts of the plan and config.json to the workdir."""
  check_lease()
  plan_record.write_plan(workdir, fingerprint, parts)
  check_lease()
  if jax.process_index() == 0:
    content = json.dumps(config, indent=2) + "\n"
    storage.write_whole(epath.Path(workdir) / "config.json", content.encode())


def make_meter(
  run: RunFacts, costs: Callable[..., metrics.Costs] | None, compilations: metrics.Compilations
) -> metrics.Meter:
  """The meter of a run, whose clock starts now."""
  setup = run.setup
  work = costs and costs(setup.model, setup.like.params, setup.optimizer.rates)
  peak = metrics.peak_tflops(run.config["peak_tflops"], jax.devices()[0])
  return metrics.Meter(run.steps, work, peak, compilations)


def make_tracker(
  run: RunFacts,
  log: MetricsLog,
  meter: metrics.Meter,
  clock: goodput.PhaseClock,
  publisher: Publisher,
) -> Tracker:
  """The tracker of a run.

  `clock` and `meter` get what earlier starts counted.
  """
  spent = goodput.GoodputFile(run.workdir, clock, publisher)
  spent.resume(run.first)
  meter.add_earlier(spent.counts_until(run.first))
  return Tracker(log, meter, run.config["log_every"], spent)


def default_hooks(config: Config, tracker: Tracker) -> list[Hook]:
  """The hooks that every run has, in their order."""
  steps = profiler.step_range(config.get("profile", ""))
  hooks = [Watchdog(config["stall_seconds"]), Supervision(), tracker, StepBar()]
  return [*hooks, profiler.Profiler(steps)] if steps else hooks


def _no_lease() -> None:
  """The check of a lease for a run without one."""


class Loop:
  """The steps of a run.

  An object holds the state of the host. The state of the devices is passed through `train`.
  """

  def __init__(
    self,
    run: RunFacts,
    saved: store.Checkpoints,
    fingerprint: str,
    signals: Signals,
    hooks: HookList,
    clock: goodput.PhaseClock,
  ):
    self.done = run.first
    self._run = run
    self._config = run.config
    self._saved = saved
    self._fingerprint = fingerprint
    self._signals = signals
    self._hooks = hooks
    self._clock = clock
    self._step = kept_train_step(run.config, run.setup)
    self._saved_state = averages.make_saved_state(run.setup.optimizer, run.setup.like)
    self._programs: dict[tuple, Any] = {}  # Shapes of a batch -> the compiled step.
    self._pending: tuple[int, DeviceMetrics] | None = None  # Metrics that are not fetched yet.
    self._newest: metrics.DeviceScalar | None = None  # The loss of the newest step.
    self._saved_at = run.first
    self._looked_at = 0.0
    self._step_seconds = math.inf  # Seconds of the newest step with metrics.

  def train(self, state: TrainState, row: int, fetcher: Fetcher) -> tuple[TrainState, int]:
    """Runs steps until the last one or a signal, and saves checkpoints.

    row: the number of the next global row of data. Returns state and row after the last step.
    """
    if self._hooks.lacks_scores(self.done):
      self._evaluate(self._hooks.evaluate_again, state, row)
    batch = self._fetch(fetcher)
    while self.done < self._run.steps and not self._signals.is_time(self._next_point()):
      state, step_metrics = self._dispatch(state, batch)
      row += self._config["batch"]
      batch = self._fetch(fetcher)
      self._look()  # Metrics of the previous step.
      self._pending = (self.done, step_metrics)
      is_last = self.done == self._run.steps
      saves = is_last or self.done % self._config["checkpoint_every"] == 0
      evaluates = self._hooks.wants_state(self.done)
      if saves or evaluates or self._step_seconds > _LONG_STEP_SECONDS:
        self._look()  # Metrics of this step: only a finite state is saved.
      if saves:
        self._save(state, row)
      if evaluates:
        self._evaluate(self._hooks.evaluate, state, row)
    self._look()
    return state, row

  def save_last_step(self, state: TrainState, row: int) -> None:
    """Saves the last step and waits until it is on disk."""
    if self._saved_at != self.done or not self.done:
      self._save(state, row)
    with self._hooks.around(SAVE):
      self._saved.wait()

  def _dispatch(self, state: TrainState, batch) -> tuple[TrainState, DeviceMetrics]:
    """Hands the next step to the devices -> (state, metrics).

    Both are still being computed.
    """
    shapes = tuple(x.shape for x in batch.values())
    if shapes not in self._programs:
      self._programs[shapes] = self._compile(state, batch)
    with self._clock.host.timed("dispatch"):
      state, step_metrics = self._programs[shapes](state, batch)
    self._newest = step_metrics["loss"]
    self.done += 1
    self._hooks.dispatch(self.done)
    return state, step_metrics

  def _compile(self, state: TrainState, batch):
    """Compiles the step for the shapes of `batch`.

    The program takes no other shapes, so nothing recompiles.
    """
    with self._hooks.around(COMPILE), jax.transfer_guard("allow"):
      began = time.perf_counter()
      program = self._step.lower(state, batch).compile()
      self._wait_for_other_compilers()
    self._looked_at = time.monotonic()
    frames = batch["frames"].shape[1]
    images = batch["images"].shape[1]
    places = batch["tokens"].shape[1]
    say(
      f"Compiled the step for rows of {frames} frames, {images} images and {places} positions "
      f"in {time.perf_counter() - began:.1f} s."
    )
    return program

  def _wait_for_other_compilers(self) -> None:
    """Waits until all processes have compiled.

    Otherwise a process that waits for another one inside a step would seem to hang.
    """
    if jax.process_count() > 1:
      key_value.barrier(f"filax/compiled/{len(self._programs) + 1}", _COMPILE_SECONDS)

  def _look(self) -> None:
    """Fetches, checks and reports the metrics of the pending step."""
    if self._pending is None:
      return
    number, device_metrics = self._pending
    self._pending = None
    step_metrics = {key: float(x) for key, x in jax.device_get(device_metrics).items()}
    self._step_seconds = time.monotonic() - self._looked_at
    self._looked_at += self._step_seconds
    self._check_finite(number, step_metrics)
    self._saved.raise_failed_save()
    with self._clock.host.timed("hooks"):
      self._hooks.step(number, step_metrics)

  def _check_finite(self, number: int, step_metrics: Mapping[str, float]) -> None:
    """Raises NonFinite if the loss or the gradient is not finite."""
    if not step_metrics["finite"]:
      newest = self._saved.latest()
      raise NonFinite(
        f"Step {number}: the loss is {step_metrics['loss']} and the norm of the gradient "
        f"{step_metrics['grad_norm']}. Lower config.optim.rates, lengthen config.optim.warmup, or "
        f"look at this step's samples; the newest checkpoint is {newest or 'not written yet'}."
      )

  def _save(self, state: TrainState, row: int) -> None:
    """Copies the state off the devices; it is written in the background."""
    with self._hooks.around(SAVE), jax.transfer_guard("allow"):
      saved_state = self._saved_state(state)
      self._saved.save(saved_state, row, self._fingerprint, self._config)
    self._saved_at = self.done
    self._hooks.save(self.done)
    self._looked_at = time.monotonic()

  def _evaluate(self, evaluate: Callable[..., Mapping], state: TrainState, row: int) -> None:
    """Logs the scores of an evaluation; saves the best state so far."""
    scores: Mapping[str, float] = {}
    with self._signals.ending_block():
      scores = evaluate(self.done, state)
    if scores:
      self._hooks.record_scores(self.done, scores)
      if self._saved.offer_best(self.done, scores) and self._saved_at != self.done:
        self._save(state, row)
    self._looked_at = time.monotonic()

  def _next_point(self) -> int:
    """The number of the next step, counted from this start.

    Processes use it to agree where to stop.
    """
    return self.done - self._run.first + 1

  def _fetch(self, fetcher: Fetcher) -> dict[str, jax.Array] | None:
    """The batch of the next step, on the devices.

    None after the last step, or if waiting was given up for a signal.
    """
    if self.done >= self._run.steps:
      return None
    batch = fetcher.fetch(self._gives_up)
    self._clock.switch(goodput.STEP)
    if batch is None:
      return None
    with self._clock.host.timed("batch"):
      return batches.place_batch(batch, self._run.setup.mesh)

  def _gives_up(self) -> bool:
    """Whether waiting for a batch ends for a signal.

    Called while it lasts. The devices have nothing to do once the newest step is computed: that is
    waiting for data.
    """
    if self._newest is None or self._newest.is_ready():
      self._clock.switch(goodput.DATA)
    return self._signals.is_time_while_waiting(self._next_point())
