# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C ends a command also when jax's callback of the garbage collector meets it."""

import gc
import signal
import time

from filax.cli import errors


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_not_lost(capsys):
  def _xla_gc_callback(phase, info):
    gc.callbacks.remove(_xla_gc_callback)
    signal.raise_signal(signal.SIGINT)

  def main(argv):
    gc.callbacks.append(_xla_gc_callback)
    gc.collect()
    time.sleep(10)

  before = signal.getsignal(signal.SIGINT)
  assert errors.run_verb(main, [], "chat") == 130
  assert capsys.readouterr().err == "filax chat: stopped.\n"
  assert signal.getsignal(signal.SIGINT) is before
