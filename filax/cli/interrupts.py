# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C that is not lost while jax compiles."""

from collections.abc import Iterator
import contextlib
import os
import signal
import threading

_SWALLOWING = "_xla_gc_callback"  # jax's callback of the garbage collector.
_AGAIN_SECONDS = 0.05


@contextlib.contextmanager
def heard() -> Iterator[None]:
  """Delivers Ctrl-C again if a garbage collection met it.

  Python ignores exceptions there. A signal that comes while XLA compiles is nearly always handled
  in that callback, which is the first Python code that runs afterwards.
  """
  is_main = threading.current_thread() is threading.main_thread()
  if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
    yield
    return
  signal.signal(signal.SIGINT, _interrupt)
  try:
    yield
  finally:
    if signal.getsignal(signal.SIGINT) is _interrupt:
      signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(number: int, frame) -> None:
  """Raises KeyboardInterrupt, at once or soon."""
  if frame is None or frame.f_code.co_name != _SWALLOWING:
    raise KeyboardInterrupt
  timer = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
  timer.daemon = True
  timer.start()
