# SPDX-License-Identifier: Apache-2.0
"""Estimates how long the units of a study take.

A unit takes as long as the same run or cell took with another seed. Without one, the guess of the
study's config counts, scaled by how far the guesses of finished units of its kind were off.
"""

import collections
from collections.abc import Sequence

from filax.studies.study_units import (
  CellUnit,
  StudyPlace,
  StudyUnit,
  TrainUnit,
  done_seconds,
)


class StudyClock:
  """The seconds of finished units, and estimates of the others."""

  def __init__(self, place: StudyPlace, before: Sequence[StudyUnit], cells: Sequence[CellUnit]):
    self._seconds: dict[str, float] = {}
    self._guessed: dict[type, float] = collections.defaultdict(float)  # By kind of unit: guesses,
    self._taken: dict[type, float] = collections.defaultdict(float)  # and seconds of finished ones.
    for unit in before:
      folder = unit.folder if isinstance(unit, TrainUnit) else place.data
      seconds = done_seconds(folder)
      if seconds is not None:
        self.note(unit, seconds)
    for cell in cells:
      result = place.cells.read_cell(cell.cell.name, cell.seed)
      if result is not None:
        self.note(cell, result.seconds)

  def note(self, unit: StudyUnit, seconds: float) -> None:
    """Keeps the seconds of a finished unit."""
    self._seconds[_kind(unit)] = seconds
    if unit.guess:
      self._guessed[type(unit)] += unit.guess
      self._taken[type(unit)] += seconds

  def seconds_of(self, units: Sequence[StudyUnit]) -> float:
    """The estimated seconds of units; 0 if nothing is known."""
    return sum(map(self._estimate, units))

  def _estimate(self, unit: StudyUnit) -> float:
    known = self._seconds.get(_kind(unit))
    if known is not None:
      return known
    guessed = self._guessed[type(unit)]
    scale = self._taken[type(unit)] / guessed if guessed else 1.0
    return unit.guess * scale


def _kind(unit: StudyUnit) -> str:
  """The unit without its seed."""
  return unit.name.partition(".seed")[0] + "/" + type(unit).__name__


def time_text(seconds: float) -> str:
  """Seconds in words: 42 s, 7 min, 2 h 5 min."""
  if seconds < 100:
    return f"{seconds:.0f} s"
  minutes = round(seconds / 60)
  if minutes < 100:
    return f"{minutes} min"
  return f"{minutes // 60} h {minutes % 60} min"
