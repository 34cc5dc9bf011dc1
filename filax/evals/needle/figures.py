# SPDX-License-Identifier: Apache-2.0
"""Figures of needle tests: a heat map over length and depth, lines over length."""

from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

HEAT_MAP = "heatmap.png"
LINES = "lines.png"
COLOURS = ("#F0496E", "#EBB839", "#9ad5b3")  # From 0 to 1, as in LongVA.


def draw_heat_map(
  table: Sequence[Mapping[str, float]], result: Mapping[str, Any], file: IO[bytes]
) -> None:
  """Draws the scores of cells as LongVA does; a cell without answers stays white."""
  from matplotlib.colors import LinearSegmentedColormap

  lengths = sorted({entry["Num. Frame"] for entry in table})
  depths = sorted({entry["Frame Depth"] for entry in table})
  scores = np.full((len(depths), len(lengths)), np.nan)
  for entry in table:
    place = depths.index(entry["Frame Depth"]), lengths.index(entry["Num. Frame"])
    scores[place] = entry["Score"]
  figure, axes = _figure((17.5, 8))
  colours = LinearSegmentedColormap.from_list("needles", COLOURS)
  edges_x = np.arange(len(lengths) + 1)
  edges_y = np.arange(len(depths) + 1)
  mesh = axes.pcolormesh(
    edges_x, edges_y, scores, cmap=colours, vmin=0, vmax=1, edgecolors="white", linewidth=1.5
  )
  axes.invert_yaxis()
  axes.set_xticks(edges_x[:-1] + 0.5, [_thousands(length) for length in lengths], rotation=45)
  axes.set_yticks(edges_y[:-1] + 0.5, [f"{depth:g}" for depth in depths])
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
  lengths = [entry["Num. Frame"] for entry in table]
  joint = []
  for entry in table:
    joint.append(entry["Both correct"] / max(1, entry["Total question pair"]))
  axes.plot(lengths, [entry["Caption Score"] for entry in table], marker="o", label="CAP")
  axes.plot(lengths, joint, marker="o", label="QA (joint)")
  axes.plot(lengths, [entry["QA Score"] for entry in table], ls=":", label="QA Score alone")
  axes.axhline(0.25, color="grey", lw=1, ls="--", label="chance of CAP")
  if result["chance"] is not None:
    axes.axhline(result["chance"], color="black", lw=1, ls="--", label="chance of joint QA")
  axes.set_xticks(lengths, [_thousands(length) for length in lengths], rotation=45)
  axes.set(xlabel="Num. of Frames", ylabel="Score", ylim=(0, 1))
  axes.set_title(_title(result), fontsize=10)
  axes.legend()
  figure.savefig(file, format="png")


def _figure(size: tuple[float, float]):
  """(figure, its axes), without a window."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(size, layout="constrained")
  FigureCanvasAgg(figure)
  return figure, figure.subplots()


def _title(result: Mapping[str, Any]) -> str:
  """Protocol, tokens of a frame, score and controls in a line."""
  settings = result["settings"]
  words = [f"{result['benchmark']} ({result['protocol']})"]
  words.append(f"{settings['tokens_per_frame']:.3g} tokens a frame")
  score = result["scores"][result["metric"]]
  words.append(f"{result['metric']} {score:.3f}")
  for control in result["controls"].values():
    if control["questions"]:
      words.append(f"{control['shows']} {control['accuracy']:.3f}")
  return ", ".join(words)


def _thousands(frames: float) -> str:
  """1000 -> "1.0K"."""
  return f"{frames / 1000:.1f}K"
