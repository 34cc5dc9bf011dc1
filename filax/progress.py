# SPDX-License-Identifier: Apache-2.0
"""Progress: a bar on a terminal, a plain line every two seconds elsewhere.

A terminal is one that shows colours: with NO_COLOR, with TERM=dumb and in pipes there are plain
lines without control codes.
"""

import atexit
from collections.abc import Callable
import contextlib
import os
import sys
import time
from typing import Any, TextIO

LINE_SECONDS = 2.0  # Between two plain lines.
BAR_SECONDS = 0.1  # Between two states of a bar.


def shows_bars(out: TextIO) -> bool:
  """Whether a stream is a terminal that takes control codes."""
  try:
    is_terminal = out.isatty()
  except (AttributeError, ValueError):  # No file, or closed.
    return False
  return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Bar:
  """A bar with words after it, at the bottom of a terminal.

  Other lines are printed above it. At most one bar is shown; while it is, another one stays hidden.
  `remove_bar` removes it.
  """

  _shown: "Bar | None" = None

  def __init__(self, out: TextIO, total: int | None = None):
    self._out = out
    self._total = total
    self._bars: Any = None  # A rich.progress.Progress once it is shown.
    self._task: Any = None

  def show(self, done: int, words: str) -> None:
    """Draws the bar."""
    if self._bars is None and not self._open():
      return
    self._bars.update(self._task, completed=done, words=words)
    self._bars.refresh()

  def remove_bar(self) -> None:
    """Removes the bar; the cursor is shown again."""
    if self._bars is not None:
      self._bars.stop()
      self._bars = None
      Bar._shown = None
      atexit.unregister(self.remove_bar)

  def _open(self) -> bool:
    """Starts drawing, unless another bar is shown."""
    if Bar._shown is not None:
      return False
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
      BarColumn(24),
      TextColumn("{task.percentage:>3.0f}%"),
      TextColumn("{task.fields[words]}", markup=False),
    )
    console = Console(file=self._out)
    self._bars = Progress(*columns, console=console, transient=True, auto_refresh=False)
    self._task = self._bars.add_task("", total=self._total, words="")
    self._bars.start()
    Bar._shown = self
    atexit.register(self.remove_bar)  # A killed command leaves no hidden cursor.
    return True


class ProgressLine:
  """Work that is counted: a bar on a terminal, lines elsewhere.

  total: the count at the end, if it is known. Use as a context manager, which removes the bar.
  """

  def __init__(self, total: int | None = None, out: TextIO | None = None):
    self._out = sys.stderr if out is None else out
    self._bar = Bar(self._out, total) if shows_bars(self._out) else None
    self._shown_at = time.monotonic()
    self._is_shown = False

  def __enter__(self) -> "ProgressLine":
    return self

  def __exit__(self, *_) -> None:
    self.remove_bar()

  def show(self, done: int, words: Callable[[], str]) -> None:
    """Shows words() if enough time has passed since they were shown last."""
    now = time.monotonic()
    wait = LINE_SECONDS if self._bar is None else BAR_SECONDS
    if now - self._shown_at < wait:
      return
    self._shown_at = now
    self._is_shown = True
    if self._bar is None:
      print(words(), file=self._out, flush=True)
    else:
      self._bar.show(done, words())

  def end(self, words: Callable[[], str], always: bool = False) -> None:
    """Removes the bar, and prints a last line.

    Only if there was one before, unless `always`.
    """
    self.remove_bar()
    if self._is_shown or always:
      print(words(), file=self._out, flush=True)

  def remove_bar(self) -> None:
    """Removes the bar, if there is one."""
    if self._bar is not None:
      self._bar.remove_bar()


class WorkProgress(contextlib.AbstractContextManager):
  """How many things are done, with rate and remaining time.

  noun: what is counted. total: the count at the end, if it is known. out: None for no line.
  """

  def __init__(self, noun: str, total: int | None = None, out: TextIO | None = None):
    self._noun = noun
    self._total = total
    self._count = 0
    self._began = time.monotonic()
    self._line = None if out is None else ProgressLine(total, out)

  def __exit__(self, *_) -> None:
    if self._line is not None:
      self._line.end(self._words)

  def count_one(self) -> None:
    """Counts one more, and shows it if it is time."""
    self._count += 1
    if self._line is not None:
      self._line.show(self._count, self._words)

  def _words(self) -> str:
    rate = self._count / max(time.monotonic() - self._began, 1e-9)
    if self._total is None:
      return f"{self._noun} {self._count:,}, {rate:,.0f}/s"
    minutes, seconds = divmod(round((self._total - self._count) / max(rate, 1e-9)), 60)
    return (
      f"{self._noun} {self._count:,}/{self._total:,}, {rate:,.1f}/s, {minutes} min {seconds} s left"
    )
