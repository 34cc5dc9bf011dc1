# SPDX-License-Identifier: Apache-2.0
"""Where the time of a run goes, over all its starts.

Every second counts for one phase:

  start     opening the data, building the model, and everything else before the first step
  restore   reading a checkpoint, or drawing the first parameters
  compile   tracing and compiling the step
  data      waiting for a batch while the devices have nothing to do
  step      steps that the run kept
  evaluate  evaluations
  save      copying states off the devices, and waiting for writes
  lost      steps that were done again: those after the checkpoint from which a start resumed

The goodput is the share of `step`. The time between two starts does not count.

goodput.json in the workdir carries the seconds from start to start, and what was counted until each
checkpoint. It is written every 10 s, at records and at saves. The time of a killed process after
its last write is not known.
"""

from collections.abc import Iterator, Mapping
import contextlib
import json
import time
from typing import Any

from etils import epath
import jax

from filax import files
from filax.checkpoint.lease import Lost
from filax.train.workdir import Publisher, fetch_file, local_folder

START = "start"
RESTORE = "restore"
COMPILE = "compile"
DATA = "data"
STEP = "step"
EVALUATE = "evaluate"
SAVE = "save"
LOST = "lost"
PHASES = (START, RESTORE, COMPILE, DATA, STEP, EVALUATE, SAVE, LOST)
FILE = "goodput.json"

_WRITE_SECONDS = 10.0
_SAVES = 100  # The step seconds of this many newest checkpoints are kept.

Seconds = dict[str, float]  # Phase -> seconds.


class HostClock:
  """The seconds in which the host prepares or follows steps, by task."""

  def __init__(self):
    self._seconds: Seconds = {}

  @contextlib.contextmanager
  def timed(self, task: str) -> Iterator[None]:
    """A context around a task of one step."""
    began = time.perf_counter()
    yield
    self._seconds[task] = self._seconds.get(task, 0.0) + time.perf_counter() - began

  def take(self, steps: int) -> Seconds:
    """Task -> seconds a step.

    steps: those since the last call.
    """
    seconds = self._seconds
    self._seconds = {}
    return {task: total / max(steps, 1) for task, total in seconds.items()}


class PhaseClock:
  """Counts every second for the phase that is on.

  `host` counts what the host does for steps.
  """

  def __init__(self):
    self.host = HostClock()
    self._seconds: Seconds = dict.fromkeys(PHASES, 0.0)
    self._phase = START
    self._since = time.perf_counter()

  def switch(self, phase: str) -> str:
    """Begins a phase; returns the one that it ends."""
    now = time.perf_counter()
    self._seconds[self._phase] += now - self._since
    self._since = now
    before = self._phase
    self._phase = phase
    return before

  @contextlib.contextmanager
  def timed(self, phase: str) -> Iterator[None]:
    """A context in which a phase is on."""
    before = self.switch(phase)
    try:
      yield
    finally:
      self.switch(before)

  def add_earlier(self, seconds: Mapping[str, float]) -> None:
    """Adds the seconds of earlier starts."""
    for phase in PHASES:
      self._seconds[phase] += seconds.get(phase, 0.0)

  def seconds(self) -> Seconds:
    """Phase -> seconds so far."""
    self.switch(self._phase)
    return dict(self._seconds)


def goodput(seconds: Mapping[str, float]) -> float:
  """The share of useful steps in all seconds."""
  return seconds[STEP] / max(sum(seconds.values()), 1e-9)


class GoodputFile:
  """goodput.json of a workdir, which process 0 reads and writes."""

  def __init__(
    self, workdir: epath.PathLike, clock: PhaseClock, publisher: Publisher | None = None
  ):
    """publisher: checks the lease, and copies the file to a bucket."""
    self.clock = clock
    self._workdir = workdir
    self._publisher = publisher or Publisher(workdir)
    self._saves: dict[str, float] = {}  # Step of a checkpoint -> step seconds until then.
    self._counts: dict[str, dict[str, int]] = {}  # Step of a checkpoint -> counts until then.
    self._written = 0.0

  def resume(self, first: int) -> None:
    """Adds the seconds of earlier starts to the clock.

    Seconds of steps after `first`, from which the run goes on, are lost. A run that starts at 0
    without a checkpoint has lost all its steps. A damaged file counts as none.
    """
    if jax.process_index():
      return
    content = read_goodput(self._workdir)
    if content is not None:
      self._saves = content["saves"]
      self._counts = content["counts"]
      self.clock.add_earlier(seconds_after_restart(content["seconds"], self._saves, first))
    self.write()

  def note_save(self, step: int, counts: Mapping[str, int]) -> None:
    """Notes the seconds, and the counts of the meter, until a checkpoint."""
    self._saves[str(step)] = self.clock.seconds()[STEP]
    self._counts[str(step)] = dict(counts)
    for by_step in (self._saves, self._counts):
      for old in list(by_step)[:-_SAVES]:
        del by_step[old]
    self.write()
    self._publisher.hurry()

  def counts_until(self, step: int) -> dict[str, int]:
    """The counts until a checkpoint; {} if they are unknown."""
    return self._counts.get(str(step), {})

  def write_if_due(self) -> None:
    """Writes the file if it was not written for some seconds."""
    if time.monotonic() - self._written > _WRITE_SECONDS:
      self.write()

  def write(self) -> None:
    """Writes the file.

    A full disk is reported once and does not end the run. Raises lease.Lost.
    """
    if jax.process_index():
      return
    content = dict(seconds=self.clock.seconds(), saves=self._saves, counts=self._counts)
    path = local_folder(self._workdir) / FILE
    try:
      self._publisher.check()
      with files.write_atomically(path) as file:
        file.write(json.dumps(content).encode() + b"\n")
      self._publisher.publish(path)
    except Lost:
      raise
    except OSError as error:
      files.report_unwritable(path.parent, error)
    self._written = time.monotonic()


def read_goodput(workdir: epath.PathLike) -> dict[str, Any] | None:
  """The content of goodput.json; None if it is missing.

  A damaged file is reported and counts as missing.
  """
  path = local_folder(workdir) / FILE
  try:
    path = fetch_file(workdir, FILE)
    parsed = json.loads(path.read_bytes())
    seconds = {phase: float(parsed["seconds"][phase]) for phase in PHASES}
    saves = {str(step): float(value) for step, value in parsed["saves"].items()}
    counts = {}
    for step, by_name in parsed.get("counts", {}).items():
      counts[str(step)] = {name: int(count) for name, count in by_name.items()}
  except FileNotFoundError:
    return None
  except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
    files.report_damage(path, error)
    return None
  return dict(seconds=seconds, saves=saves, counts=counts)


def seconds_after_restart(
  seconds: Mapping[str, float], saves: Mapping[str, float], first: int
) -> Seconds:
  """The seconds of earlier starts; steps after `first` are lost.

  saves: step of a checkpoint -> step seconds until then. Without an entry for `first` (a checkpoint
  that was copied here), nothing counts as lost, unless `first` is 0.
  """
  total = seconds[STEP]
  kept = saves.get(str(first), total) if first else 0.0
  lost = max(total - kept, 0.0)
  return {**seconds, STEP: total - lost, LOST: seconds[LOST] + lost}


def goodput_line(seconds: Mapping[str, float]) -> str:
  """The seconds of all starts as one line of text."""
  parts = []
  for phase in PHASES:
    if seconds[phase] >= 0.05:
      parts.append(f"{phase} {seconds[phase]:.1f}")
  return f"Goodput {goodput(seconds):.0%}; seconds of all starts: {', '.join(parts)}."
