# SPDX-License-Identifier: Apache-2.0
"""A figure of blind scores beside chance."""

import os

from data_pipelines.synthesis.blind.attack_set import AttackedGroup, AttackResult
from filax import files

_BAR = "#4878a8"
_ABOVE = "#c04040"
_ROW = 0.19  # Inches of a bar.


def draw_scores(result: AttackResult, path: str | os.PathLike) -> None:
  """Writes a PNG: a panel of bars for each task and source."""
  from matplotlib.figure import Figure

  columns = min(3, len(result.groups))
  rows = -(-len(result.groups) // columns)
  most = max(len(group.scores) for group in result.groups)
  figure = Figure(figsize=(5.2 * columns, rows * (most * _ROW + 1.1)), layout="constrained")
  panels = figure.subplots(rows, columns, squeeze=False).ravel()
  for panel in panels[len(result.groups) :]:
    panel.set_axis_off()
  for panel, group in zip(panels, result.groups, strict=False):
    _draw_group(panel, group)
  with files.write_atomically(os.fspath(path)) as file:
    figure.savefig(file, format="png", dpi=110)


def _draw_group(panel, group: AttackedGroup) -> None:
  names = [score.attack for score in group.scores]
  values = [score.score for score in group.scores]
  colours = [_ABOVE if score.is_above else _BAR for score in group.scores]
  panel.barh(names, values, color=colours)
  panel.axvline(group.chance, color="black", linewidth=1)
  low = group.chance - group.sigmas
  panel.axvspan(low, group.chance + group.sigmas, color="grey", alpha=0.25, linewidth=0)
  panel.axvline(group.limit, color=_ABOVE, linewidth=1, linestyle=":")
  panel.invert_yaxis()
  panel.set_xlim(0, 1)
  panel.tick_params(labelsize=7)
  panel.set_title(f"{group.name} ({group.questions})", fontsize=9)
  panel.set_xlabel("share right; line: chance, grey: 3 sigma, dots: limit", fontsize=7)
