# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C ends a command also when a callback whose errors Python ignores meets it."""

import gc
import signal
import subprocess
import sys
import time
import weakref

from filax.cli import errors
from filax.cli import main as command


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


def test_ctrl_c_before_the_verb_begins_leaves_no_traceback(monkeypatch, capsys):
  class Interrupting:
    def find_spec(self, name, path=None, target=None):
      if name == "filax.cli.errors":
        raise KeyboardInterrupt

  monkeypatch.delitem(sys.modules, "filax.cli.errors")
  monkeypatch.delattr("filax.cli.errors")
  monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
  assert command.main(["chat", "--checkpoint", "x"]) == 130
  assert capsys.readouterr().err == "filax: stopped.\n"


def test_the_command_imports_nothing_until_ctrl_c_can_be_met():
  code = "import sys; before = set(sys.modules); import filax.cli.main; "
  code += "print(*sorted(set(sys.modules) - before))"
  result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  late = {"filax.cli.errors", "argparse", "importlib.metadata", "collections.abc", "typing"}
  assert not late & set(result.stdout.split()), result.stdout
