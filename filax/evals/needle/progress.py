# SPDX-License-Identifier: Apache-2.0
"""The progress line of a needle test on stderr."""

from collections.abc import Mapping, Sequence
import sys
import time
from typing import Any

from filax.evals.needle.cells import CONTROLS, Cell
from filax.evals.needle.results import mean_of

SECONDS = 2.0  # Minimum time between two lines.


class NeedleProgress:
  """Contexts done, seconds left and the score so far."""

  def __init__(
    self,
    total: int,
    shows: bool,
  ):
    self._total = total
    self._shows = shows
    self._done = 0
    self._start = time.perf_counter()
    self._printed = self._start

  def print_context(
    self,
    rows: Sequence[Mapping[str, Any]],
    cell: Cell,
  ) -> None:
    """Counts a context; prints at most one line in SECONDS."""
    self._done += 1
    now = time.perf_counter()
    if now - self._printed < SECONDS:
      return
    self._printed = now
    words = f"{cell.frames} frames"
    if cell.depth is not None:
      words += f", depth {cell.depth:g}"
    if cell.control:
      words += f", {CONTROLS[cell.control]}"
    seconds_left = (self._total - self._done) * (now - self._start) / self._done
    self._print(rows, f"{words}, {seconds_left:.0f} s left")

  def print_last(self, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the line at the end."""
    self._print(rows, f"{time.perf_counter() - self._start:.0f} s")

  def _print(
    self,
    rows: Sequence[Mapping[str, Any]],
    words: str,
  ) -> None:
    if not self._shows:
      return
    score = mean_of(row for row in rows if not row["control"])
    scores = "" if score is None else f", accuracy {score:.3f}"
    line = f"contexts {self._done}/{self._total}, {words}{scores}"
    print(line, file=sys.stderr, flush=True)
