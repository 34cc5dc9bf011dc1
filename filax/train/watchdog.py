# SPDX-License-Identifier: Apache-2.0
"""Ends a run that makes no progress, and prints all threads' stacks."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import faulthandler
import os
import sys
import threading
import time

import jax

from filax.parallel import ending, key_value
from filax.train.hooks import Hook, RunFacts

EXIT_CODE = 3
_KEY = "filax/stalled"
_TICK_SECONDS = 1.0
_LINGER_SECONDS = 60.0


class Watchdog(Hook):
  """Ends the process `seconds` after the last `beat`; 0 = never.

  Prints the stacks of all threads first. Each process of a run has one: when a step hangs, it hangs
  in all.
  """

  def __init__(self, seconds: float, end_process: Callable[[str], None] | None = None):
    """`end_process` is called with the reason; default: the process ends with EXIT_CODE."""
    if not seconds >= 0:
      raise ValueError(
        f"config.stall_seconds={seconds} is not a time. Set it to seconds, or to 0 for no limit."
      )
    self.seconds = seconds
    self._end_process = end_process or self._print_stacks_and_exit
    self._tick = min(_TICK_SECONDS, seconds / 4) if seconds else _TICK_SECONDS
    self._idle = 0.0  # Seconds since the last beat in which this process ran.
    self._longest = 0.0  # Seconds between two beats.
    self._pauses = 0
    self._step = 0  # The newest step that was dispatched.
    self._finished = threading.Event()
    self._thread: threading.Thread | None = None

  def begin(self, run: RunFacts) -> None:
    if self.seconds:
      self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
      self._thread.start()

  def dispatch(self, number: int) -> None:
    self._step = number
    self.beat()

  def step(self, number: int, metrics: Mapping[str, float]) -> None:
    self.beat()

  def around(self, phase: str) -> contextlib.AbstractContextManager:
    return self.paused()

  def end(self, error: BaseException | None) -> None:
    self._finished.set()
    if self._thread is not None:
      self._thread.join()

  def beat(self) -> None:
    """Reports progress: a step was dispatched, or its metrics came."""
    self._longest = max(self._longest, self._idle)
    self._idle = 0.0

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Stops the clock while compiling, evaluating or saving.

    These have no time limit.
    """
    self._pauses += 1
    try:
      yield
    finally:
      self._pauses -= 1
      self._idle = 0.0

  def _watch(self) -> None:
    last = time.monotonic()
    while not self._finished.wait(self._tick):
      now = time.monotonic()
      if not self._pauses:
        # Counts ticks: time in which the process was stopped or starved is not idle time.
        self._idle += min(now - last, 2 * self._tick)
      last = now
      if self._idle > self.seconds and not self._pauses:
        self._end_process(self._reason())
        return

  def _reason(self) -> str:
    process = f" on process {jax.process_index()}" if jax.process_count() > 1 else ""
    return (
      f"No step was made for {self.seconds:g} s after step {self._step}{process}; the stacks of "
      "all threads are above. Start again to go on from the newest checkpoint, or raise "
      "config.stall_seconds if steps take so long."
    )

  def _print_stacks_and_exit(self, reason: str) -> None:
    if sys.__stderr__ is not None:
      faulthandler.dump_traceback(file=sys.__stderr__, all_threads=True)
    print(f"filax train: {reason}", file=sys.__stderr__, flush=True)
    if jax.process_count() > 1:
      _wait_for_others(min(2 * self._longest + 5.0, _LINGER_SECONDS))
      ending.end_all(reason, EXIT_CODE)
    os._exit(EXIT_CODE)  # The main thread hangs and cannot exit by itself.


def _wait_for_others(seconds: float) -> None:
  """Waits until the other processes have printed their stacks, too.

  The end of this process may end them.
  """
  key_value.put(f"{_KEY}/{jax.process_index()}", "stalled")
  deadline = time.monotonic() + seconds
  others = set(range(jax.process_count()))
  while others and time.monotonic() < deadline:
    time.sleep(_TICK_SECONDS / 2)
    for index in sorted(others):
      if key_value.get(f"{_KEY}/{index}") is not None:
        others.discard(index)
  time.sleep(_TICK_SECONDS)  # Time for the last process to print.
