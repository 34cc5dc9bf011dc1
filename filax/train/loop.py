# SPDX-License-Identifier: Apache-2.0
"""A run, from first step to last: the same call starts, resumes and finishes it.

Per step, in this order: dispatch the step, fetch the next rows while it runs, look at the numbers
of the step before, save if due. Nothing waits for the device but a queue of two steps; where a step
takes long the queue is one, so that a stop has to wait for no second one.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import json
import math
import time
from typing import Any

from etils import epath
import jax

from filax.checkpoint import store
from filax.checkpoint.lease import Lease
from filax.checkpoint.store import say
from filax.parallel import agreement, ending, key_value
from filax.train import batches, metrics, plan_record, state
from filax.train import setup as start
from filax.train.batches import Pipeline
from filax.train.fetch import Fetcher
from filax.train.signals import Signals
from filax.train.supervision import Supervision
from filax.train.watchdog import Watchdog

_LONG_STEP_SECONDS = 5.0  # A step is not queued behind one that takes longer.
_COMPILE_SECONDS = 24 * 3600.0  # That one process may take longer than another.


class NonFinite(ValueError):
  """The loss or the gradient is not a number."""


def run(
  config,
  workdir: epath.PathLike,
  pipeline: Pipeline,
  costs: Callable[..., metrics.Costs] | None = None,
  devices: Sequence[jax.Device] | None = None,
  ingredients: plan_record.Parts | None = None,
  lease: Lease | None = None,
  signals: Signals | None = None,
) -> dict[str, Any]:
  """Trains config.model on the rows of `pipeline`; what an earlier call did is not repeated.

  config is a ConfigDict (configs/common.py). The workdir gets checkpoints/, config.json,
  metrics.jsonl and tensorboard/. `costs(model, shapes, rates)` says what MFU counts. `devices` are
  those of config.mesh; default: all there are. `ingredients` are those of the pipeline's plan: all
  processes must have the same, and the workdir keeps them to name what changed. `lease` is looked
  at before anything is written, `signals` are those that the caller handles already. Returns
  first_step, steps, stopped (by a signal), loss, seconds (without compilation), frames, tokens,
  both per second, num_bad, compilations and checkpoint. Raises ValueError for an invalid config or
  steps that learn nothing, NonFinite naming the step, and lease.Lost if another run has taken the
  workdir over.
  """
  config = config.to_dict()
  with contextlib.ExitStack() as stack:
    compilations = stack.enter_context(metrics.Compilations())
    start.check_settings(config)
    steps = steps_of(config, pipeline)
    parts = plan_record.parts(config, steps, pipeline.fingerprint, ingredients or {})
    agreement.check(parts)
    setup = start.prepare(config, steps, devices)
    watchdog = Watchdog(config["stall_seconds"])
    check = lease.check if lease else _always_ours
    saved = stack.enter_context(store.Checkpoints(workdir, config["keep"], check))
    stack.enter_context(ending.together())  # What refuses from here on waits for no other process.
    now, row = start.start(
      config,
      setup,
      saved,
      pipeline.fingerprint,
      lambda fingerprint: plan_record.changes(workdir, fingerprint, parts),
    )
    check()
    plan_record.write(workdir, pipeline.fingerprint, parts)
    stack.enter_context(jax.set_mesh(setup.mesh))  # Not earlier: one example row is no batch.
    first = int(jax.device_get(now.step))
    check()
    write_config(workdir, config)
    log = stack.enter_context(metrics.Log(workdir, first, steps, check))
    work = costs and costs(setup.model, setup.like.params, setup.optimizer.rates)
    peak = metrics.peak_tflops(config["peak_tflops"], jax.devices()[0])
    meter = metrics.Meter(steps, work, peak, compilations)
    if signals is None:
      signals = stack.enter_context(Signals())
    signals.defer()
    fetcher = stack.enter_context(Fetcher(batches.batches(pipeline, setup.mesh, row)))
    stack.enter_context(jax.transfer_guard("disallow"))
    loop = Loop(config, setup, steps, saved, pipeline.fingerprint, log, meter, signals, watchdog)
    stack.enter_context(ending.together())
    with watchdog:
      loop.train(now, first, row, fetcher)
    saved.wait()
    return loop.summary(first) | {"checkpoint": str(saved.latest() or "")}


def steps_of(config: Mapping[str, Any], pipeline: Pipeline) -> int:
  """config.steps, or what config.epochs comes to. Raises ValueError if that is none."""
  steps = config["steps"] or pipeline.steps(config["epochs"])
  if steps < 1:
    raise ValueError("There is no full batch. Lower config.batch or add to config.data.train.")
  return steps


def write_config(workdir: epath.PathLike, config: Mapping[str, Any]) -> None:
  """config.json: how the run in this folder was last started."""
  if jax.process_index() == 0:
    (epath.Path(workdir) / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _always_ours() -> None:
  """Stands for the check of a lease where there is none."""


class Loop:
  """The steps of a run. Holds what the host knows; the device's state passes through `train`."""

  def __init__(
    self,
    config,
    setup,
    steps: int,
    saved,
    fingerprint: str,
    log,
    meter,
    signals: Signals,
    watchdog: Watchdog,
  ):
    self.config, self.setup, self.steps = config, setup, steps
    self.saved, self.fingerprint = saved, fingerprint
    self.log, self.meter = log, meter
    self.signals, self.watchdog = signals, watchdog
    self.first = 0
    self.done = 0
    self.last: dict[str, float] = {}  # Metrics of the newest step that was looked at.
    self.supervision = Supervision()
    self._programs = {}  # Shapes of a batch -> the compiled step: one for every bucket.
    self._step = start.train_step(config, setup)
    self._looked_at = 0.0
    self._step_seconds = math.inf  # Of the newest step that was looked at.

  def train(self, now: state.TrainState, done: int, row: int, fetcher: Fetcher) -> None:
    """Steps from `done`, at global row `row`, to the last one or a signal; saves on the way."""
    self.first = done
    self.done = saved_at = done
    pending = None  # (number, device metrics) of a step that was dispatched and not looked at.
    batch = self._fetch(fetcher)
    while self.done < self.steps and not self.signals.is_time(self._point()):
      now, numbers = self._program(now, batch)(now, batch)
      self.done += 1
      row += self.config["batch"]
      self.watchdog.beat(self.done)
      batch = self._fetch(fetcher)
      self._look(pending)
      pending = (self.done, numbers)
      if self._step_seconds > _LONG_STEP_SECONDS:
        pending = self._look(pending)
      if self.done % self.config["checkpoint_every"] == 0:
        pending = self._look(pending)  # What is not finite is never saved.
        saved_at = self._save(now, row)
    self._look(pending)
    self.meter.stop()
    if saved_at != self.done or not self.done:
      self._save(now, row)

  def summary(self, first: int) -> dict[str, Any]:
    """What the run did since it was started."""
    totals, seconds = self.meter.totals, max(self.meter.seconds, 1e-9)
    return {
      "first_step": first,
      "steps": self.done,
      "stopped": self.done < self.steps,
      "loss": self.last.get("loss"),
      "seconds": self.meter.seconds,
      "frames": int(totals["frames"]),
      "frames_per_second": totals["frames"] / seconds,
      "tokens": int(totals["tokens"]),
      "tokens_per_second": totals["tokens"] / seconds,
      "num_bad": int(totals["num_bad"]),
      "compilations": self.meter.compilations.count,
    }

  def _program(self, now, batch):
    """The step, compiled for the shapes of `batch`. It takes no others, so nothing recompiles."""
    key = tuple(x.shape for x in batch.values())
    if key not in self._programs:
      timed, paused = self.meter.compilations.timed(), self.watchdog.paused()
      with timed, paused, jax.transfer_guard("allow"):
        began = time.perf_counter()
        self._programs[key] = self._step.lower(now, batch).compile()
        self._meet()
      self._looked_at = time.monotonic()
      frames, images, places = (batch[k].shape[1] for k in ("frames", "images", "tokens"))
      say(
        f"Compiled the step for rows of {frames} frames, {images} images and {places} positions "
        f"in {time.perf_counter() - began:.1f} s."
      )
    return self._programs[key]

  def _meet(self) -> None:
    """Waits until all processes have compiled; who waited for one in a step would seem to hang."""
    if jax.process_count() > 1:
      key_value.meet(f"filax/compiled/{len(self._programs)}", _COMPILE_SECONDS)

  def _look(self, pending) -> None:
    """Fetches and checks the numbers of a step, and logs them if it is their turn."""
    if pending is None:
      return
    number, numbers = pending
    self.last = {key: float(x) for key, x in jax.device_get(numbers).items()}
    self._step_seconds = time.monotonic() - self._looked_at
    self._looked_at += self._step_seconds
    self.watchdog.beat(self.done)
    if not self.last["finite"]:
      newest = self.saved.latest()
      raise NonFinite(
        f"Step {number}: the loss is {self.last['loss']} and the norm of the gradient "
        f"{self.last['grad_norm']}. Lower config.optim.rates, lengthen config.optim.warmup, or "
        f"look at this step's samples; the newest checkpoint is {newest or 'not written yet'}."
      )
    self.supervision.add(number, self.last)
    self.saved.check()
    self.meter.add(self.last)
    if number % self.config["log_every"] == 0 or number == self.steps:
      self.log.write(self.meter.record(number, self.last))

  def _save(self, now: state.TrainState, row: int) -> int:
    with self.watchdog.paused():
      self.saved.save(now, row, self.fingerprint, self.config)
    self._looked_at = time.monotonic()
    return self.done

  def _point(self) -> int:
    """The number, counted from this start, of the step that comes next: where processes agree."""
    return self.done - self.first + 1

  def _fetch(self, fetcher: Fetcher) -> dict[str, jax.Array] | None:
    """The batch of the next step on the devices; None if no step comes."""
    if self.done == self.steps:
      return None
    batch = fetcher.fetch(lambda: self.signals.is_time_while_waiting(self._point()))
    return None if batch is None else batches.place(batch, self.setup.mesh)
