# SPDX-License-Identifier: Apache-2.0
"""Plots of how seconds grow with a shape, as PNG."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

from benchmarks.summary import summarise_case

FEWEST = 3  # Points of a curve.


def draw_growth(cases: Sequence[Mapping[str, Any]], folder: pathlib.Path) -> list[pathlib.Path]:
  """Draws a plot for every row with enough shapes; returns the files.

  Without matplotlib nothing is drawn.
  """
  try:
    import matplotlib
  except ImportError:
    return []
  matplotlib.use("Agg")
  curves = growth_curves(cases)
  paths = []
  for (row, axis), sides in curves.items():
    if max(len(points) for points in sides.values()) >= FEWEST:
      path = folder / f"{row}.png"
      _draw_row(path, row, axis, sides)
      paths.append(path)
  return paths


def growth_curves(
  cases: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, str], dict[str, list[tuple[float, float]]]]:
  """(row, axis) -> side and fixed shape -> points (size, seconds)."""
  curves: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
  for case in cases:
    axis = case["axis"]
    if not axis:
      continue
    sides = curves.setdefault((case["row"], axis), {})
    fixed = [f"{key}={value}" for key, value in case["shape"].items() if key != axis]
    for name, side in summarise_case(case)["sides"].items():
      if "rate" in side:
        label = " ".join((name, *fixed))
        point = (float(case["shape"][axis]), side["seconds"])
        sides.setdefault(label, []).append(point)
  return {key: sides for key, sides in curves.items() if sides}


def _draw_row(path: pathlib.Path, row: str, axis: str, sides) -> None:
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(6, 4))
  for label, points in sides.items():
    points = sorted(points)
    sizes = [size for size, _ in points]
    seconds = [second for _, second in points]
    axes.plot(sizes, seconds, marker="o", label=label)
  axes.set_xscale("log", base=2)
  axes.set_yscale("log")
  axes.set_xlabel(axis)
  axes.set_ylabel("seconds")
  axes.set_title(row.replace("_", " "))
  axes.grid(alpha=0.3)
  axes.legend(fontsize=7)
  figure.tight_layout()
  figure.savefig(path, dpi=120)
  pyplot.close(figure)
