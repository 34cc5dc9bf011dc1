# SPDX-License-Identifier: Apache-2.0
"""Fetches batches in a thread, so that waiting can be given up."""

from collections.abc import Callable, Iterator
import contextlib
import queue
import signal
import threading

from filax.train.batches import Batch
from filax.train.signals import Signals

_FIRST_POLL_SECONDS = 0.001
_POLL_SECONDS = 0.1  # The longest; each is twice the one before.
_END_SECONDS = 5.0


class Fetcher:
  """Fetches the batches of a pipeline, one at a time.

  A batch is fetched only when it is asked for, none ahead. Use as a context manager around the
  pipeline's own.
  """

  def __init__(self, batches: contextlib.AbstractContextManager[Iterator[Batch]]):
    self._context = batches
    self._orders: queue.SimpleQueue = queue.SimpleQueue()
    # Of (batch, error), one of them None. Not a SimpleQueue: if a signal comes just before the
    # timeout ends, SimpleQueue.get of CPython 3.11 waits for ever.
    self._results: queue.Queue = queue.Queue()
    self._thread: threading.Thread | None = None

  def __enter__(self):
    batches = self._context.__enter__()
    self._thread = threading.Thread(
      target=self._serve, args=(batches,), name="batches", daemon=True
    )
    self._thread.start()
    return self

  def __exit__(self, *error):
    self._orders.put(False)
    try:
      return self._context.__exit__(*error)
    finally:
      if self._thread is not None:
        self._thread.join(_END_SECONDS)  # Decoding a picture cannot be interrupted.

  def fetch(self, give_up: Callable[[], bool]) -> Batch | None:
    """The next batch; None if `give_up` turns true while waiting.

    `give_up` is called ever less often, at first every millisecond. After None, nothing more can be
    fetched. Raises the exceptions of the pipeline.
    """
    self._orders.put(True)
    timeout = _FIRST_POLL_SECONDS
    while True:
      try:
        batch, error = self._results.get(timeout=timeout)
      except queue.Empty:
        if give_up():
          return None
        timeout = min(2 * timeout, _POLL_SECONDS)
        continue
      if error is None:
        return batch
      if give_up():  # The signal may have ended a worker of the pipeline, too.
        return None
      raise error

  def _serve(self, batches: Iterator[Batch]) -> None:
    # Threads and processes started here inherit the mask, so that a signal to the process group
    # never ends a worker, not even while it starts.
    signal.pthread_sigmask(signal.SIG_BLOCK, Signals.KINDS)
    while self._orders.get():
      self._results.put(_next(batches))


def _next(batches: Iterator[Batch]) -> tuple[Batch | None, BaseException | None]:
  try:
    return next(batches), None
  except BaseException as error:
    return None, error
