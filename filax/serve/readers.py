# SPDX-License-Identifier: Apache-2.0
"""Threads that read media, some of which may hang."""

from collections.abc import Callable
import queue
import sys
import threading
import traceback

_MOST_LOST = 16  # Threads that hang before no further ones are started.


class ReaderThreads:
  """A number of threads that run functions in order.

  A function that hangs keeps its thread; `replace_lost` starts another one in its place, and the
  lost thread ends when its function returns. The threads never keep the process from ending.
  """

  def __init__(self, count: int):
    self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    self._lock = threading.Lock()
    self._lost = 0
    for _ in range(count):
      self._start_thread()

  def submit(self, function: Callable[[], None]) -> None:
    """Runs a function, which must not raise, in one of the threads."""
    self._work.put(function)

  def replace_lost(self) -> None:
    """Starts a thread in place of one that hangs."""
    with self._lock:
      if self._lost >= _MOST_LOST:
        return
      self._lost += 1
    self._start_thread()

  def _start_thread(self) -> None:
    threading.Thread(target=self._run, name="filax reader", daemon=True).start()

  def _run(self) -> None:
    while True:
      function = self._work.get()
      try:
        function()
      except Exception:  # A fault of the server, which must not stop it.
        traceback.print_exc(file=sys.stderr)
      with self._lock:
        if self._lost:
          self._lost -= 1
          return
