# SPDX-License-Identifier: Apache-2.0
"""Turns SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 into save-and-stop.

Before a time limit, Slurm sends the signal that a job asks for (`--signal=USR1@120`). A signal only
asks for a stop: the loop stops after the running step, where it can save.

Where several processes run, jax listens to SIGTERM itself from `jax.distributed.initialize` on and
tells the other processes; all then agree on the step after which they stop.
"""

from collections.abc import Iterator
import contextlib
import os
import signal
import sys
import threading
import time

import jax
from jax.experimental import multihost_utils

from filax.parallel import preemption
from filax.parallel.preemption import Interrupted

_ASK_SECONDS = 1.0


class Signals:
  """Turns the first signal into a stop.

  A second one, except SIGHUP, ends the process.

  Until `defer` is called there is nothing to save, and a signal raises Interrupted. Enter it before
  jax.distributed.initialize, so that jax's own handler of SIGTERM stays in place.
  """

  KINDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

  def __init__(self):
    self.received = False
    self.ended_block = False  # Whether some work was left out for a signal.
    self._number: int | None = None
    self._deferred = False
    self._ends_block = False  # Whether a signal ends the block of `ending_block`.
    self._before = {}
    self._noticed_at: float | None = None
    self._asked_at = 0.0

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else.
      for kind in self.KINDS:
        is_of_jax = kind == signal.SIGTERM and jax.distributed.is_initialized()
        is_ignored = kind == signal.SIGHUP and signal.getsignal(kind) == signal.SIG_IGN  # By nohup.
        if not is_of_jax and not is_ignored:
          self._before[kind] = signal.signal(kind, self._on_signal)
    return self

  def __exit__(self, *_):
    for kind, handler in self._before.items():
      if kind == signal.SIGTERM and jax.distributed.is_initialized():
        continue  # jax has replaced this handler.
      signal.signal(kind, handler)

  def defer(self) -> None:
    """Lets signals only ask for a stop, which `is_time` reports."""
    self._deferred = True

  @contextlib.contextmanager
  def ending_block(self) -> Iterator[None]:
    """Lets a signal end the block at once.

    The block is work that may be left out. With several processes, it ends where they agree to (see
    filax.parallel.preemption): its programs may wait for all of them.
    """
    try:
      self._ends_block = not jax.distributed.is_initialized()
      if self._ends_block and self.received:
        raise Interrupted
      yield
    except Interrupted:
      self.ended_block = True
    finally:
      self._ends_block = False

  def pass_on(self) -> None:
    """Lets a signal that came act as it did before.

    Call it after the block, for a caller that knows nothing of signals.
    """
    if self._number is not None:
      signal.raise_signal(self._number)

  def is_time(self, point: int) -> bool:
    """Whether to stop before step `point` of this start (from 1).

    The answer is the same on all processes. Ask before every step.
    """
    if not jax.distributed.is_initialized():
      return self.received
    return multihost_utils.reached_preemption_sync_point(point)

  def is_time_while_waiting(self, point: int) -> bool:
    """`is_time`, for a process that cannot start the step `point` yet.

    May be asked repeatedly. With several processes, asking for a point too early could make the run
    go one step further, so it is asked only after some process has had a signal.
    """
    if not jax.distributed.is_initialized():
      return self.received
    now = time.monotonic()
    if self._noticed_at is None and now - self._asked_at >= _ASK_SECONDS:
      self._asked_at = now
      if preemption.is_noticed():
        self._noticed_at = now
    # The processes tell each other their points right after the notice; let them do so first.
    if self._noticed_at is None or now - self._noticed_at < _ASK_SECONDS:
      return False
    return self.is_time(point)

  def _on_signal(self, number, _):
    repeated = self._before[number]
    if number == signal.SIGHUP:  # A terminal that closes may say so twice, by its shell, too.
      repeated = signal.SIG_IGN
    signal.signal(number, repeated)
    self.received = True
    self._number = number
    if jax.distributed.is_initialized():
      signal.raise_signal(signal.SIGTERM)  # jax listens to SIGTERM only.
    elif not self._deferred:
      raise Interrupted
    _print_now(f"{signal.Signals(number).name}: saving after this step, then stopping.\n")
    if self._ends_block:
      raise Interrupted


def _print_now(text: str) -> None:
  """Writes directly to the file, past Python's buffers.

  The interrupted code may be in the middle of using those.
  """
  with contextlib.suppress(OSError):
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
