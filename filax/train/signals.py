# SPDX-License-Identifier: Apache-2.0
"""A polite end: SIGTERM and SIGINT ask for a stop, and the loop stops where it can save."""

import signal
import threading

from filax.train.checkpoint import say


class Signals:
  """While in use, a signal sets `received` instead of ending the process; a second one ends it."""

  KINDS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self):
    self.received = False
    self._before = {}

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else.
      self._before = {kind: signal.signal(kind, self._heard) for kind in self.KINDS}
    return self

  def __exit__(self, *_):
    for kind, handler in self._before.items():
      signal.signal(kind, handler)

  def _heard(self, number, _):
    self.received = True
    signal.signal(number, self._before[number])
    say(f"{signal.Signals(number).name}: saving after this step, then stopping.")
