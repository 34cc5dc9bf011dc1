# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C ends a command also when a callback whose errors Python ignores meets it."""

import gc
import signal
import sys
import time
import weakref

from filax.cli import errors


def interrupt():
  signal.raise_signal(signal.SIGINT)
  time.sleep(0.01)  # Here the signal is handled.


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_not_lost(capsys):
  def callback(phase, info):
    gc.callbacks.remove(callback)
    interrupt()

  def main(argv):
    gc.callbacks.append(callback)
    gc.collect()
    time.sleep(10)

  before = sys.unraisablehook
  assert errors.run_verb(main, [], "chat") == 130
  assert capsys.readouterr().err == "filax chat: stopped.\n"
  assert sys.unraisablehook is before


def test_ctrl_c_in_a_callback_of_a_weak_reference_is_not_lost(capsys):
  class Watched:
    pass

  def main(argv):
    watched = Watched()
    reference = weakref.ref(watched, lambda _: interrupt())
    del watched
    time.sleep(10)
    return reference

  assert errors.run_verb(main, [], "chat") == 130
  assert capsys.readouterr().err == "filax chat: stopped.\n"
