# SPDX-License-Identifier: Apache-2.0
"""The best step of a run by one of its scores.

The file best.json, beside the checkpoints, names it only after its checkpoint is complete. The
checkpoint then stays, whatever config.keep says, until best.json names another step. So best.json
names a complete checkpoint after any crash.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import json
import math
import pathlib
import sys
import threading
from typing import Any, TypeAlias

from etils import epath
import jax

from filax.checkpoint import storage
from filax.parallel import agreement

FILE = "best.json"  # Below the workdir.

Path: TypeAlias = epath.Path | pathlib.Path
Scores: TypeAlias = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class BestStep:
  """A step and the score that makes it the best."""

  step: int
  metric: str  # eval/NAME/SCORE.
  direction: str  # max | min
  value: float


class BestCheckpoint:
  """The best checkpoint of a run, under one metric.

  Called from the training loop and from the thread that finishes a save.
  """

  def __init__(
    self, workdir: epath.Path, metric: str = "", check: Callable[[], None] = lambda: None
  ):
    """Opens best.json of a workdir.

    metric: as config.best; "" keeps what best.json names. check: raises if nothing may be written
    now.
    """
    self._file = workdir / FILE
    self._metric, self._direction = parse_metric(metric)
    self._check = check
    self._lock = threading.Lock()
    self._complete: set[int] = set()  # Steps whose checkpoints are complete.
    self._waiting: BestStep | None = None  # Better; its checkpoint is not complete yet.
    self._best: BestStep | None = None  # What best.json names.
    self.reload()

  @property
  def best(self) -> BestStep | None:
    """The best step whose checkpoint is complete."""
    return self._best

  def reload(self) -> None:
    """Reads best.json again on process 0, for all processes.

    A damaged one counts as none, with a message.
    """
    record = json.loads(agreement.from_first(self._best_as_json))
    self._best = None if record is None else BestStep(**record)

  def _best_as_json(self) -> str:
    """The JSON of best.json; that of None without a sound file."""
    try:
      best = read_best(self._file)
    except ValueError as error:
      print(error, file=sys.stderr, flush=True)
      best = None
    return json.dumps(best and dataclasses.asdict(best))

  def protects(self, step: int) -> bool:
    """Whether the checkpoint of a step must stay."""
    with self._lock:
      return any(best is not None and best.step == step for best in (self._best, self._waiting))

  def offer(self, step: int, scores: Scores) -> bool:
    """Whether the scores make `step` the best so far.

    Its checkpoint then stays. best.json is written when that is complete (`note_written`).
    """
    candidate = self._candidate(step, scores)
    if candidate is None:
      return False
    with self._lock:
      if not self._is_better(candidate, self._waiting or self._best):
        return False
      self._waiting = candidate
      self._publish()
    return True

  def note_written(self, step: int) -> None:
    """Notes that the checkpoint of a step is complete."""
    with self._lock:
      self._complete.add(step)
      self._publish()

  def _publish(self) -> None:
    """Makes the step that waits the best if its checkpoint is complete."""
    waiting = self._waiting
    if waiting is not None and waiting.step in self._complete:
      self._write(waiting)
      self._waiting = None

  def start(self, complete: Iterable[int]) -> None:
    """Notes the complete checkpoints at the start of a run."""
    self._complete = set(complete)

  def recover(self, scores: Mapping[int, Scores]) -> None:
    """Makes best.json right after a run that ended at any point.

    scores: those of earlier steps, by step. Only steps with a complete checkpoint count. Writes the
    file, so it is called on one process; the others `reload`.
    """
    best = self._best
    if best is not None and best.step not in self._complete:
      print(f"{self._file}: the checkpoint of step {best.step} is gone.", file=sys.stderr)
      best = None
    for step in sorted(scores):
      candidate = self._candidate(step, scores[step])
      if candidate is None or step not in self._complete:
        continue
      if self._is_better(candidate, best):
        best = candidate
    if best is not None and best != self._best:
      self._write(best)
    elif best is None and self._file.exists():
      self._check()
      self._file.unlink()
      self._best = None

  def _candidate(self, step: int, scores: Scores) -> BestStep | None:
    """The step under the metric; None without a finite score."""
    value = scores.get(self._metric) if self._metric else None
    if value is None or not math.isfinite(value):
      return None
    return BestStep(step, self._metric, self._direction, float(value))

  def _is_better(self, candidate: BestStep, best: BestStep | None) -> bool:
    """Whether a candidate is better.

    It is if the best so far is by another metric.
    """
    if best is None or (best.metric, best.direction) != (candidate.metric, candidate.direction):
      return True
    if candidate.direction == "min":
      return candidate.value < best.value
    return candidate.value > best.value

  def _write(self, best: BestStep) -> None:
    """Writes best.json from one process."""
    if jax.process_index() == 0:
      self._check()
      content = json.dumps(dataclasses.asdict(best), indent=2).encode() + b"\n"
      storage.write_whole(self._file, content)
    self._best = best


def parse_metric(text: str) -> tuple[str, str]:
  """("eval/NAME/SCORE", "max" or "min") of config.best."""
  if text.startswith("-"):
    return text[1:], "min"
  return text, "max"


def read_best(file: Path) -> BestStep | None:
  """The step that a best.json names; None without a file.

  Raises ValueError for a damaged file.
  """
  try:
    record: Any = json.loads(file.read_bytes())
    return BestStep(
      int(record["step"]), str(record["metric"]), str(record["direction"]), float(record["value"])
    )
  except FileNotFoundError:
    return None
  except (ValueError, LookupError, TypeError, RecursionError) as error:
    raise ValueError(
      f"{file} is damaged. Delete it, and give the folder of a step below checkpoints/."
    ) from error
