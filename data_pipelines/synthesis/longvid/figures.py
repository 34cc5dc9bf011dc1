# SPDX-License-Identifier: Apache-2.0
"""Figures of a set of questions.

Tasks by source, letters, lengths of what is shown.
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

from filax import files

FOLDER = "figures"


def write_figures(results: Mapping[str, Any], out: pathlib.Path) -> None:
  """Writes figures.json and, if there are questions, pictures."""
  with files.write_atomically(out / "figures.json") as file:
    file.write(json.dumps(results, indent=2, ensure_ascii=False).encode() + b"\n")
  if not results.get("questions"):
    return
  (out / FOLDER).mkdir(exist_ok=True)
  _draw_tasks(results["by_source"], out / FOLDER / "tasks.png")
  _draw_letters(results["letters"], out / FOLDER / "letters.png")
  _draw_lengths(results["shown_seconds"], out / FOLDER / "durations.png")


def _axes(height: float = 4.0):
  """(figure, axes) of a new picture."""
  from matplotlib.figure import Figure  # A second to import.

  figure = Figure(figsize=(7, height), layout="constrained")
  return figure, figure.add_subplot()


def _draw_tasks(by_source: Mapping[str, Mapping[str, int]], path: pathlib.Path) -> None:
  tasks = sorted({task for counts in by_source.values() for task in counts})
  figure, axes = _axes(1.5 + 0.4 * len(tasks))
  left = [0] * len(tasks)
  for source, counts in by_source.items():
    widths = [counts.get(task, 0) for task in tasks]
    axes.barh(tasks, widths, left=left, label=source)
    left = [begin + width for begin, width in zip(left, widths, strict=True)]
  axes.set(xlabel="questions", title=f"{sum(left)} questions by task and source")
  axes.legend()
  figure.savefig(path, dpi=120)


def _draw_letters(letters: Mapping[str, int], path: pathlib.Path) -> None:
  figure, axes = _axes()
  axes.bar(list(letters), list(letters.values()), color="#4878a8")
  axes.set(xlabel="letter of the right option", ylabel="questions")
  axes.set_title(f"{sum(letters.values())} choice questions")
  figure.savefig(path, dpi=120)


def _draw_lengths(seconds: Mapping[str, int], path: pathlib.Path) -> None:
  figure, axes = _axes()
  middles = [int(second) + 5 for second in seconds]
  counts = list(seconds.values())
  longest = max(middles) + 5
  axes.hist(middles, bins=min(60, max(longest // 10, 1)), weights=counts, color="#4878a8")
  products = [middle * count for middle, count in zip(middles, counts, strict=True)]
  mean = sum(products) / sum(counts)
  axes.axvline(mean, color="#c04040", linewidth=1, label=f"mean {mean:.0f} s")
  axes.set(xlabel="length of what is shown [s]", ylabel="questions")
  axes.legend()
  figure.savefig(path, dpi=120)
