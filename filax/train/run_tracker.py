# SPDX-License-Identifier: Apache-2.0
"""What a tracker is, and how its failures are kept from the run."""

from collections import deque
from collections.abc import Callable, Mapping
import dataclasses
import sys
import time
from typing import Any, Protocol

from etils import epath

from filax.checkpoint import storage
from filax.checkpoint.lease import Lost

_RETRY_SECONDS = 10.0
_RETRY_SHARE = 20  # A try that took a second is repeated after this many seconds at the earliest.
_KEPT = 10_000  # Records that wait while a tracker fails.

Values = Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class TrackedRun:
  """The run whose metrics follow."""

  workdir: epath.PathLike
  config: Mapping[str, Any]
  first: int  # The step that it starts from; records of later steps are replaced.

  @property
  def run_name(self) -> str:
    """The name of its folder."""
    return epath.Path(self.workdir).name


class RunTracker(Protocol):
  """Receives the metrics of a run."""

  def begin_run(self, run: TrackedRun) -> None:
    """Called before the first record, also when a run goes on.

    It is called again if it failed.
    """
    ...

  def track(self, step: int, values: Values) -> None:
    """Metrics after a step; the names of scores begin with eval/.

    Called again with the same record if it failed.
    """
    ...

  def end_run(self) -> None:
    """Called once, also after an error."""
    ...


class NeverFailing:
  """A tracker that ends no run.

  A failure is printed. The records from there on are kept and offered again, at most a twentieth of
  the time, until they are taken.
  """

  def __init__(self, name: str, tracker: RunTracker):
    self._name = name
    self._tracker = tracker
    self._run: TrackedRun | None = None  # Until it has begun.
    self._has_begun = False
    self._kept: deque[tuple[int, Values]] = deque()
    self._dropped = 0
    self._is_failing = False
    self._retry_at = 0.0

  def begin_run(self, run: TrackedRun) -> None:
    """As the tracker's."""
    self._run = run
    self._try(self._catch_up)

  def track(self, step: int, values: Values) -> None:
    """As the tracker's."""
    self._kept.append((step, values))
    if len(self._kept) > _KEPT:
      self._kept.popleft()
      self._dropped += 1
    if time.monotonic() >= self._retry_at:
      self._try(self._catch_up)

  def end_run(self) -> None:
    """As the tracker's, after a last try."""
    self._try(self._catch_up)
    if self._has_begun:
      self._try(self._tracker.end_run)
    lost = self._dropped + len(self._kept)
    if lost:
      _print_line(f"The tracker {self._name} did not get {lost} records.")

  def _catch_up(self) -> None:
    """Offers what the tracker did not take yet."""
    if not self._has_begun and self._run is not None:
      self._tracker.begin_run(self._run)
      self._has_begun = True
    while self._kept:
      self._tracker.track(*self._kept[0])
      self._kept.popleft()

  def _try(self, call: Callable[[], None]) -> None:
    began = time.monotonic()
    try:
      call()
    except Lost:
      raise
    except Exception as error:  # Whatever a tracker raises is no reason to lose a run.
      ended = time.monotonic()
      self._retry_at = ended + max(_RETRY_SECONDS, _RETRY_SHARE * (ended - began))
      if not self._is_failing:
        reason = storage.reason(error)
        _print_line(
          f"The tracker {self._name} failed, training goes on and tries it again: {reason}."
        )
      self._is_failing = True
      return
    if self._is_failing:
      self._is_failing = False
      _print_line(f"The tracker {self._name} works again.")


def _print_line(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
