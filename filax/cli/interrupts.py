# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C that is not lost while jax compiles."""

from collections.abc import Iterator
import contextlib
import os
import signal
import sys
import threading

_AGAIN_SECONDS = 0.05


@contextlib.contextmanager
def heard() -> Iterator[None]:
  """Delivers Ctrl-C again if Python ignored it.

  Python ignores exceptions in callbacks of the garbage collector and of weak references. A signal
  that comes while XLA compiles is nearly always handled in such a callback of jax: it is the first
  Python code that runs afterwards. Python passes the exception to sys.unraisablehook.
  """
  report = sys.unraisablehook

  def deliver_again(ignored: "sys.UnraisableHookArgs") -> None:
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
      report(ignored)
      return
    timer = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()

  sys.unraisablehook = deliver_again
  try:
    yield
  finally:
    if sys.unraisablehook is deliver_again:
      sys.unraisablehook = report
