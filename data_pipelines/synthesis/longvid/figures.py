# SPDX-License-Identifier: Apache-2.0
"""Draws statistics of a set of questions.

There are three pictures: questions by task and source, letters of the right options, and the length
of the video that a question shows.
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

import numpy as np

from filax import files

FOLDER = "figures"
BIN_SECONDS = 10  # `shown_seconds` counts questions in bins of this length.


def write_figures(results: Mapping[str, Any], out: pathlib.Path) -> None:
  """Writes figures.json and, if there are questions, the pictures.

  results: counts of questions: `by_source` (source -> task -> count), `letters` (letter -> count)
  and `shown_seconds` (first second of a bin -> count).
  """
  text = json.dumps(results, indent=2, ensure_ascii=False)
  with files.write_atomically(out / "figures.json") as file:
    file.write(text.encode() + b"\n")
  if not results.get("questions"):
    return
  folder = out / FOLDER
  folder.mkdir(exist_ok=True)
  _draw_tasks(results["by_source"], folder / "tasks.png")
  _draw_letters(results["letters"], folder / "letters.png")
  _draw_lengths(results["shown_seconds"], folder / "durations.png")


def _axes(height: float = 4.0):
  """(figure, axes) of a new picture."""
  from matplotlib.figure import Figure  # The import takes a second.

  figure = Figure(figsize=(7, height), layout="constrained")
  return figure, figure.add_subplot()


def _draw_tasks(by_source: Mapping[str, Mapping[str, int]], path: pathlib.Path) -> None:
  names: set[str] = set()
  for counts in by_source.values():
    names.update(counts)
  tasks = sorted(names)
  figure, axes = _axes(height=1.5 + 0.4 * len(tasks))
  bar_ends = np.zeros(len(tasks), int)  # Each source continues the bars of the one before.
  for source, counts in by_source.items():
    widths = [counts.get(task, 0) for task in tasks]
    axes.barh(tasks, widths, left=bar_ends, label=source)
    bar_ends = bar_ends + widths
  axes.set_xlabel("questions")
  axes.set_title(f"{bar_ends.sum()} questions by task and source")
  axes.legend()
  figure.savefig(path, dpi=120)


def _draw_letters(letters: Mapping[str, int], path: pathlib.Path) -> None:
  figure, axes = _axes()
  axes.bar(list(letters), list(letters.values()), color="#4878a8")
  axes.set_xlabel("letter of the right option")
  axes.set_ylabel("questions")
  axes.set_title(f"{sum(letters.values())} choice questions")
  figure.savefig(path, dpi=120)


def _draw_lengths(seconds: Mapping[str, int], path: pathlib.Path) -> None:
  figure, axes = _axes()
  half_bin = BIN_SECONDS // 2
  middles = np.array([int(second) + half_bin for second in seconds])
  counts = np.array(list(seconds.values()))
  longest = int(middles.max()) + half_bin
  bars = min(60, max(longest // BIN_SECONDS, 1))
  axes.hist(middles, bins=bars, weights=counts, color="#4878a8")
  mean = np.average(middles, weights=counts)
  axes.axvline(mean, color="#c04040", linewidth=1, label=f"mean {mean:.0f} s")
  axes.set_xlabel("length of the shown video [s]")
  axes.set_ylabel("questions")
  axes.legend()
  figure.savefig(path, dpi=120)
