# SPDX-License-Identifier: Apache-2.0
"""What `filax study --list` and `--dry-run` print."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from filax.studies.design import StudyDesign

if TYPE_CHECKING:
  from filax.studies.study_run import StudyUnits
  from filax.studies.study_time import StudyClock


def shipped_lines(designs: Sequence[StudyDesign]) -> list[str]:
  """A line a study."""
  width = max((len(design.name) for design in designs), default=0)
  lines = [f"{'study':<{width}}  cells  runs  claims"]
  for design in designs:
    counts = f"{len(design.cells):>5}  {len(design.runs):>4}  {len(design.contrasts):>6}"
    lines.append(f"{design.name:<{width}}  {counts}  {design.title}")
  return lines


def cell_lines(design: StudyDesign) -> list[str]:
  """The cells and claims of a study."""
  lines = [design.title, design.paper]
  if design.note:
    lines.append(design.note)
  lines.append("Cells:")
  for cell in design.cells.values():
    source = cell.checkpoint
    if cell.run:
      source = " -> ".join(run.name for run in design.chain(cell.run))
    lines.append(f"  {cell.name}: {cell.label}; from {source}")
  lines.append("Columns:")
  for column in design.columns.values():
    part = f" where {column.field} is like {column.pattern!r}" if column.field else ""
    paper = f"; the paper's {column.paper}" if column.paper else ""
    lines.append(f"  {column.name}: {column.questions}{part}{paper}")
  lines.append("Claims:")
  for claim in design.contrasts:
    source = f"  [{claim.source}]" if claim.source else ""
    lines.append(f"  {claim.column}: {claim.higher} above {claim.lower}{source}")
  return lines


def dry_run_lines(units: "StudyUnits", clock: "StudyClock") -> list[str]:
  """What is left to do, with estimated times."""
  from filax.studies.study_time import time_text

  undone = units.undone()
  lines = []
  for unit in undone:
    seconds = clock.seconds_of([unit])
    lines.append(f"  {unit.name}: {time_text(seconds) if seconds else 'unknown time'}")
  total = clock.seconds_of(undone)
  time_left = f"about {time_text(total)}" if total else "of unknown time"
  done = sum(cell.is_done() for cell in units.cells)
  lines.append(
    f"{done} of {len(units.cells)} cells are finished; {len(undone)} units are left, {time_left}."
  )
  for cell in units.cells:
    if cell.is_outdated():
      lines.append(f"  {cell.name}: its file has another config; it is run anew")
  return lines
