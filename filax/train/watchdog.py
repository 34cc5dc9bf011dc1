# SPDX-License-Identifier: Apache-2.0
"""The end of a run that makes no step any more: it shows where it stands, instead of waiting."""

from collections.abc import Callable, Iterator
import contextlib
import faulthandler
import os
import sys
import threading
import time

import jax

from filax.parallel import ending, key_value

EXIT_CODE = 3
_KEY = "filax/stalled"
_TICK_SECONDS = 1.0
_LINGER_SECONDS = 60.0


class Watchdog:
  """Ends the process, with the stacks of all threads, `seconds` after the last `beat`; 0 = never.

  Use as a context manager. Each process of a run has one: when a step hangs, it hangs in all.
  """

  def __init__(self, seconds: float, end: Callable[[str], None] | None = None):
    if not seconds >= 0:
      raise ValueError(
        f"config.stall_seconds={seconds} is no time. Set it to seconds, or to 0 for no limit."
      )
    self.seconds = seconds
    self._end = end or self._end_process
    self._tick = min(_TICK_SECONDS, seconds / 4) if seconds else _TICK_SECONDS
    self._idle = 0.0  # Seconds since the last beat, as far as this process was running.
    self._longest = 0.0  # Seconds between two beats.
    self._pauses = 0
    self._step = 0
    self._finished = threading.Event()
    self._thread: threading.Thread | None = None

  def __enter__(self):
    if self.seconds:
      self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
      self._thread.start()
    return self

  def __exit__(self, *_):
    self._finished.set()
    if self._thread is not None:
      self._thread.join()

  def beat(self, step: int) -> None:
    """A step was dispatched, or its numbers came."""
    self._longest = max(self._longest, self._idle)
    self._idle = 0.0
    self._step = step

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Around compiling and saving, which take as long as they take."""
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
        # A process that was stopped for an hour, or starved, has not been idle for an hour.
        self._idle += min(now - last, 2 * self._tick)
      last = now
      if self._idle > self.seconds and not self._pauses:
        self._end(self._sentence())
        return

  def _sentence(self) -> str:
    who = f" on process {jax.process_index()}" if jax.process_count() > 1 else ""
    return (
      f"No step was made for {self.seconds:g} s after step {self._step}{who}; the stacks of all "
      "threads are above. Start again to go on from the newest checkpoint, or raise "
      "config.stall_seconds if steps take so long."
    )

  def _end_process(self, sentence: str) -> None:
    faulthandler.dump_traceback(file=sys.__stderr__, all_threads=True)
    print(f"filax train: {sentence}", file=sys.__stderr__, flush=True)
    if jax.process_count() > 1:
      _wait_for_others(min(2 * self._longest + 5.0, _LINGER_SECONDS))
      ending.end_all(sentence, EXIT_CODE)
    os._exit(EXIT_CODE)  # The main thread hangs, so it cannot be asked.


def _wait_for_others(seconds: float) -> None:
  """Lets the other processes show their stacks, too: the end of this one may end them."""
  key_value.put(f"{_KEY}/{jax.process_index()}", "stalled")
  deadline = time.monotonic() + seconds
  others = set(range(jax.process_count()))
  while others and time.monotonic() < deadline:
    time.sleep(_TICK_SECONDS / 2)
    for index in sorted(others):
      if key_value.get(f"{_KEY}/{index}") is not None:
        others.discard(index)
  time.sleep(_TICK_SECONDS)  # What the last one has to print.
