# SPDX-License-Identifier: Apache-2.0
"""The progress of a needle test on stderr."""

from collections.abc import Mapping, Sequence
import time
from typing import Any

from filax.evals.needle.cells import CONTROLS, Cell
from filax.evals.needle.results import mean_of
from filax.progress import ProgressLine


class NeedleProgress:
  """Contexts done, seconds left and the score so far."""

  def __init__(
    self,
    total: int,
    shows: bool,
  ):
    self._total = total
    self._done = 0
    self._start = time.perf_counter()
    self._line = ProgressLine(total) if shows else None

  def count_context(
    self,
    rows: Sequence[Mapping[str, Any]],
    cell: Cell,
  ) -> None:
    """Counts a context."""
    self._done += 1
    if self._line is not None:
      self._line.show(self._done, lambda: self._words(rows, self._cell_words(cell)))

  def end(self, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the line at the end."""
    seconds = time.perf_counter() - self._start
    if self._line is not None:
      self._line.end(lambda: self._words(rows, f"{seconds:.0f} s"), always=True)

  def _cell_words(self, cell: Cell) -> str:
    words = f"{cell.frames} frames"
    if cell.depth is not None:
      words += f", depth {cell.depth:g}"
    if cell.control:
      words += f", {CONTROLS[cell.control]}"
    seconds = time.perf_counter() - self._start
    seconds_left = (self._total - self._done) * seconds / self._done
    return f"{words}, {seconds_left:.0f} s left"

  def _words(self, rows: Sequence[Mapping[str, Any]], words: str) -> str:
    score = mean_of(row for row in rows if not row["control"])
    scores = "" if score is None else f", accuracy {score:.3f}"
    return f"contexts {self._done}/{self._total}, {words}{scores}"
