# SPDX-License-Identifier: Apache-2.0
"""Progress: a bar on a terminal, plain lines without control codes elsewhere."""

import io
import os
import pty
import re
import sys

import pytest

from filax import progress
from filax.train import step_bar
from filax.train.hooks import RunFacts


class Terminal(io.StringIO):
  """Text that a terminal would show."""

  def isatty(self):
    return True


@pytest.fixture
def colours(monkeypatch):
  monkeypatch.delenv("NO_COLOR", raising=False)
  monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def at_once(monkeypatch):
  monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
  monkeypatch.setattr(progress, "BAR_SECONDS", -1.0)


def count(out):
  with progress.ProgressLine(3, out) as line:
    for done in (1, 2, 3):
      line.show(done, lambda done=done: f"files {done}/3")
    line.end(lambda: "files 3/3, all")
  return out.getvalue()


def test_lines_in_a_pipe(at_once):
  assert count(io.StringIO()) == "files 1/3\nfiles 2/3\nfiles 3/3\nfiles 3/3, all\n"


def test_few_lines_and_none_for_short_work():
  assert count(io.StringIO()) == ""


def test_work_has_a_rate_and_its_remaining_time(at_once):
  out = io.StringIO()
  with progress.WorkProgress("files", 2, out) as work:
    work.count_one()
    work.count_one()
  first, second, last = out.getvalue().splitlines()
  assert re.fullmatch(r"files 1/2, [0-9,.]+/s, 0 min 0 s left", first)
  assert second.startswith("files 2/2, ") and last.startswith("files 2/2, ")
  with progress.WorkProgress("files") as silent:
    silent.count_one()


def test_a_bar_on_a_terminal(at_once, colours):
  shown = count(Terminal())
  assert "\x1b[" in shown and "67%" in shown and "files 2/3" in shown
  assert shown.endswith("files 3/3, all\n")
  assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # The cursor is back.


@pytest.mark.parametrize("name, value", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_codes_where_none_are_wanted(name, value, at_once, colours, monkeypatch):
  monkeypatch.setenv(name, value)
  assert count(Terminal()) == "files 1/3\nfiles 2/3\nfiles 3/3\nfiles 3/3, all\n"


def test_a_second_bar_stays_hidden(at_once, colours):
  first = progress.Bar(Terminal(), 2)
  out = Terminal()
  second = progress.Bar(out, 2)
  first.show(1, "first")
  second.show(1, "second")
  assert out.getvalue() == ""
  first.remove_bar()
  second.show(1, "second")
  second.remove_bar()
  assert "second" in out.getvalue()


def test_an_error_removes_the_bar(at_once, colours):
  out = Terminal()
  with pytest.raises(RuntimeError), progress.ProgressLine(3, out) as line:
    line.show(1, lambda: "files 1/3")
    raise RuntimeError
  assert out.getvalue().rstrip().endswith("\x1b[2K") or "\x1b[?25h" in out.getvalue()
  assert progress.Bar._shown is None


def test_the_steps_of_a_run(colours, monkeypatch):
  out = Terminal()
  monkeypatch.setattr(sys, "stdout", out)
  bar = step_bar.StepBar()
  bar.begin(RunFacts("", {}, None, 0, 4))
  for number in range(1, 4):
    bar.step(number, {"loss": 1.25, "supervised": 5.0})
    print(f"step {number}/4 | loss")
  bar.end(None)
  assert "step 3/4, loss 1.2500" in out.getvalue() and " s/step, " in out.getvalue()
  assert "step 2/4 | loss" in out.getvalue()


def test_a_real_terminal_is_one():
  leader, follower = pty.openpty()
  with os.fdopen(follower, "w") as out:
    assert progress.shows_bars(out) == (
      not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )
  os.close(leader)
