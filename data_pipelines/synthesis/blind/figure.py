# SPDX-License-Identifier: Apache-2.0
"""Draws the scores of blind attacks beside the score of chance."""

import math
import os

from data_pipelines.synthesis.blind.attack_set import AttackedGroup, AttackResult
from filax import files

_BAR_COLOUR = "#4878a8"
_ABOVE_COLOUR = "#c04040"  # For scores above the limit.
_COLUMNS = 3  # The most panels side by side.
_BAR_INCHES = 0.19
_PANEL_WIDTH = 5.2  # Inches.
_PANEL_MARGIN = 1.1  # Inches above and below the bars.


def draw_scores(result: AttackResult, path: str | os.PathLike) -> None:
  """Writes a PNG: a panel of bars for each task and source."""
  from matplotlib.figure import Figure

  panel_count = len(result.groups)
  columns = min(_COLUMNS, panel_count)
  rows = math.ceil(panel_count / columns)
  most_bars = max(len(group.scores) for group in result.groups)
  panel_height = most_bars * _BAR_INCHES + _PANEL_MARGIN
  figure = Figure(figsize=(_PANEL_WIDTH * columns, panel_height * rows), layout="constrained")
  panels = figure.subplots(rows, columns, squeeze=False).ravel()
  for unused_panel in panels[panel_count:]:
    unused_panel.set_axis_off()
  for panel, group in zip(panels, result.groups, strict=False):
    _draw_group(panel, group)
  with files.write_atomically(os.fspath(path)) as file:
    figure.savefig(file, format="png", dpi=110)


def _draw_group(panel, group: AttackedGroup) -> None:
  for score in group.scores:
    colour = _ABOVE_COLOUR if score.is_above else _BAR_COLOUR
    panel.barh(score.attack, score.score, color=colour)
  low = group.chance - group.sigmas
  high = group.chance + group.sigmas
  panel.axvline(group.chance, color="black", linewidth=1)
  panel.axvspan(low, high, color="grey", alpha=0.25, linewidth=0)
  panel.axvline(group.limit, color=_ABOVE_COLOUR, linewidth=1, linestyle=":")
  panel.invert_yaxis()
  panel.set_xlim(0, 1)
  panel.tick_params(labelsize=7)
  panel.set_title(f"{group.name} ({group.questions})", fontsize=9)
  panel.set_xlabel("share right; line: chance, grey: 3 sigma, dots: limit", fontsize=7)
