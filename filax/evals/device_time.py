# SPDX-License-Identifier: Apache-2.0
"""When programs run on the device, measured from the host."""

from concurrent.futures import ThreadPoolExecutor
import contextlib
import time
from typing import Any, NamedTuple

import jax


class RunningTime(NamedTuple):
  """The time of a program, in seconds of perf_counter."""

  phase: str
  start: float
  end: float


class DeviceClock:
  """Collects the running times of device programs.

  Programs run one after the other, in the order of their calls. A call's compilation counts as
  running.
  """

  def __init__(self):
    self._times: list[RunningTime] = []
    self._watcher = ThreadPoolExecutor(1, "device-clock")

  def watch_arrays(self, phase: str, start: float, arrays: Any) -> None:
    """Notes when arrays called for at `start` are ready."""
    self._watcher.submit(self._await, phase, start, arrays)

  def add_time(self, phase: str, start: float, end: float) -> None:
    """Notes a program that has ended."""
    self._times.append(RunningTime(phase, start, end))

  def wait_until_idle(self) -> None:
    """Waits until everything that is watched has ended."""
    self._watcher.submit(time.perf_counter).result()

  def seconds(self) -> dict[str, float]:
    """Phase -> seconds of the device, each second counted once."""
    totals: dict[str, float] = {}
    busy_until = 0.0
    for phase, start, end in sorted(self._times, key=_end):
      worked = max(0.0, end - max(start, busy_until))
      totals[phase] = totals.get(phase, 0.0) + worked
      busy_until = max(busy_until, end)
    return totals

  def busy_seconds(self) -> float:
    """Seconds in which some program ran or waited for its turn."""
    total = 0.0
    busy_until = 0.0
    for _, start, end in sorted(self._times, key=_start):
      total += max(0.0, end - max(start, busy_until))
      busy_until = max(busy_until, end)
    return total

  def stop_watching(self) -> None:
    """Ends the watching thread."""
    self._watcher.shutdown(wait=False, cancel_futures=True)

  def _await(self, phase: str, start: float, arrays: Any) -> None:
    with contextlib.suppress(Exception):  # A failed program is reported where it is used.
      jax.block_until_ready(arrays)
    self.add_time(phase, start, time.perf_counter())


def _start(running: RunningTime) -> float:
  return running.start


def _end(running: RunningTime) -> float:
  return running.end
