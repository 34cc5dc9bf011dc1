# SPDX-License-Identifier: Apache-2.0
"""The figure of a study: scores with their intervals, column by column."""

import io

from filax.studies.figure import figure_of
from filax.studies.study_table import StudyNumbers

COLOUR = "#3b6ea8"
_MOST_PANELS = 4  # Columns of a table that are drawn; the rest stands in the table.


def draw_study(numbers: StudyNumbers) -> bytes:
  """A PNG: lines over the axis of a study, or dots."""
  columns = list(numbers.design.columns)[:_MOST_PANELS]
  figure, panels = figure_of(len(columns))
  draw = _draw_lines if numbers.design.lines else _draw_dots
  for panel, column in zip(panels, columns, strict=True):
    draw(panel, numbers, column)
    panel.set_title(column)
  out = io.BytesIO()
  figure.savefig(out, format="png", dpi=110)
  return out.getvalue()


def _draw_dots(panel, numbers: StudyNumbers, column: str) -> None:
  """A dot with its interval for every cell."""
  labels = []
  for place, cell in enumerate(numbers.design.cells.values()):
    labels.append(cell.label)
    mean = numbers.entry(cell.name, column).mean
    if mean is not None:
      low, high = mean.share_bounds
      panel.plot([100 * low, 100 * high], [place, place], color=COLOUR)
      panel.plot(100 * mean.mean, place, "o", color=COLOUR)
  panel.set_yticks(range(len(labels)), labels)
  panel.invert_yaxis()
  panel.set_xlabel("score, %")


def _draw_lines(panel, numbers: StudyNumbers, column: str) -> None:
  """A line with bars for every series.

  Cells without a line are level lines.
  """
  drawn = set()
  for line in numbers.design.lines:
    xs = []
    heights = []
    below = []
    above = []
    for x, name in line.points:
      drawn.add(name)
      mean = numbers.entry(name, column).mean
      if mean is not None:
        xs.append(x)
        heights.append(100 * mean.mean)
        low, high = mean.share_bounds
        below.append(100 * (mean.mean - low))
        above.append(100 * (high - mean.mean))
    panel.errorbar(xs, heights, yerr=(below, above), marker="o", capsize=3, label=line.name)
  for cell in numbers.design.cells.values():
    mean = numbers.entry(cell.name, column).mean
    if cell.name not in drawn and mean is not None:
      panel.axhline(100 * mean.mean, color="grey", linestyle="--", label=cell.label)
  panel.set_xlabel(numbers.design.axis)
  panel.set_ylabel("score, %")
  panel.legend(fontsize=8)
