# SPDX-License-Identifier: Apache-2.0
"""Figures of needle tests.

A heat map over length and depth, lines over length.
"""

from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

HEAT_MAP = "heatmap.png"
LINES = "lines.png"
COLOURS = ("#F0496E", "#EBB839", "#9ad5b3")  # From 0 to 1, as in LongVA.
_ABOVE_ALL = 1.04  # The top of the axis of scores, so that marks at 1 are whole.


def draw_heat_map(
  table: Sequence[Mapping[str, float]], result: Mapping[str, Any], file: IO[bytes]
) -> None:
  """Draws the scores of cells as LongVA does.

  A cell without answers stays white.
  """
  lengths = sorted({entry["Num. Frame"] for entry in table})
  depths = sorted({entry["Frame Depth"] for entry in table})
  scores = np.full((len(depths), len(lengths)), np.nan)
  for entry in table:
    line = depths.index(entry["Frame Depth"])
    column = lengths.index(entry["Num. Frame"])
    scores[line, column] = entry["Score"]
  figure, axes = _figure((17.5, 8))
  mesh = axes.pcolormesh(
    np.arange(len(lengths) + 1),
    np.arange(len(depths) + 1),
    scores,
    cmap=score_shades(),
    vmin=0,
    vmax=1,
    edgecolors="white",
    linewidth=1.5,
  )
  axes.invert_yaxis()
  middles = np.arange(len(lengths)) + 0.5
  axes.set_xticks(
    middles,
    list(map(_thousands, lengths)),
    rotation=45,
  )
  middles = np.arange(len(depths)) + 0.5
  axes.set_yticks(middles, list(map("{:g}".format, depths)))
  axes.set_xlabel("Num. of Frames")
  axes.set_ylabel("Depth Percent")
  axes.set_title(_title(result), fontsize=10)
  figure.colorbar(mesh, label="Score")
  figure.savefig(file, format="png")


def draw_lines(
  table: Sequence[Mapping[str, float]], result: Mapping[str, Any], file: IO[bytes]
) -> None:
  """Draws CAP and joint QA over the number of frames, with chance."""
  figure, axes = _figure((9, 5))
  lengths = []
  finding = []
  answering = []
  joint = []
  for entry in table:
    pairs = max(1, entry["Total question pair"])
    lengths.append(entry["Num. Frame"])
    finding.append(entry["Caption Score"])
    answering.append(entry["QA Score"])
    joint.append(entry["Both correct"] / pairs)
  axes.plot(lengths, finding, marker="o", label="CAP")
  axes.plot(
    lengths,
    joint,
    marker="o",
    label="QA (joint)",
  )
  axes.plot(
    lengths,
    answering,
    linestyle=":",
    label="QA Score alone",
  )
  if result["chance"] is not None:
    axes.axhline(
      result["chance"],
      color="black",
      linestyle="--",
      label="chance of joint QA",
    )
  axes.set_xticks(
    lengths,
    list(map(_thousands, lengths)),
    rotation=45,
  )
  axes.set_xlabel("Num. of Frames")
  axes.set_ylabel("Score")
  axes.set_ylim(0, _ABOVE_ALL)
  axes.set_title(_title(result), fontsize=10)
  axes.legend(loc="lower left")
  figure.savefig(file, format="png")


def score_shades():
  """matplotlib's map from scores to COLOURS.

  Dark text is readable on all of them.
  """
  from matplotlib.colors import LinearSegmentedColormap

  return LinearSegmentedColormap.from_list("needles", COLOURS)


def _figure(size: tuple[float, float]):
  """(figure, its axes), without a window."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(size, layout="constrained")
  FigureCanvasAgg(figure)
  return figure, figure.subplots()


def _title(result: Mapping[str, Any]) -> str:
  """A line with the score, and a line with the controls."""
  settings = result["settings"]
  metric = result["metric"]
  score = result["scores"][metric]
  tokens = settings["tokens_per_frame"]
  unit = "token" if tokens == 1 else "tokens"
  protocol = f"{result['benchmark']} ({result['protocol']})"
  first = f"{protocol}, {tokens:.3g} {unit} a frame, {metric} {score:.3f}"
  controls = []
  for control in result["controls"].values():
    if control["questions"]:
      accuracy = control["accuracy"]
      controls.append(f"{control['shows']} {accuracy:.3f}")
  second = "Controls: " + ", ".join(controls)
  return f"{first}\n{second}" if controls else first


def _thousands(frames: float) -> str:
  """24 -> "24", 1500 -> "1.5K"."""
  return f"{frames:g}" if frames < 1000 else f"{frames / 1000:.1f}K"
