# SPDX-License-Identifier: Apache-2.0
"""Writes learning curves as JSON, as a Markdown table and as a picture."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

from benchmarks.learning.curves import (
  CONTROL,
  OURS,
  PAIRED,
  TWIN,
  Comparison,
  Curves,
  distance,
)
from benchmarks.learning.verdict import CHAOS, Verdict, allowed_distance
from filax import files

TABLE_STEPS = (1, 2, 5, 10, 20, 50, 100, 150, 200, 250)  # The table also has the last step.
FLOOR = 1e-9  # Added to distances, so that a log axis can show equal losses.
ORANGE = "tab:orange"
LINES = {  # Run -> its label and color among the distances.
  CONTROL: ("FiLax, one ulp away in one weight (control)", "tab:gray"),
  TWIN: ("PyTorch twin", ORANGE),
  PAIRED: ("PyTorch twin that merges FiLax's pairs", "tab:green"),
}


def write_curves(
  folder: pathlib.Path,
  name: str,
  comparison: Comparison,
  verdicts: Mapping[str, Verdict],
  facts: Mapping[str, Any],
) -> list[pathlib.Path]:
  """Writes NAME.json, NAME.md and, with matplotlib, NAME.png."""
  curves = comparison.curves
  judged = {run: dataclasses.asdict(verdict) for run, verdict in verdicts.items()}
  content = dict(
    facts,
    nudge=dataclasses.asdict(comparison.nudge),
    seconds={run: round(spent, 1) for run, spent in comparison.seconds.items()},
    verdicts=judged,
    curves=short_numbers(curves),
  )
  lines = table_lines(curves)
  for run, verdict in verdicts.items():
    lines += ["", *verdict.lines(run)]
  texts = {
    folder / f"{name}.json": json.dumps(content) + "\n",
    folder / f"{name}.md": "\n".join(lines) + "\n",
  }
  for path, text in texts.items():
    with files.write_atomically(path) as file:
      file.write(text.encode())
  picture = folder / f"{name}.png"
  drawn = draw_curves(picture, curves, verdicts[TWIN], facts["title"])
  return [*texts, picture] if drawn else list(texts)


def short_numbers(curves: Curves) -> Any:
  """Curves rounded to 9 digits, which is all that float32 holds."""

  def rounded(text: str) -> float:
    return float(f"{float(text):.9g}")

  return json.loads(json.dumps(curves), parse_float=rounded)


def table_lines(curves: Curves) -> list[str]:
  """The lines of a Markdown table of some steps.

  Its columns are the losses of FiLax and the twin, then for each run the distance of its loss and
  of its gradient norm from FiLax.
  """
  header = ["step", "loss, FiLax", "loss, twin"]
  columns = []
  for figure, words in (("loss", "distance"), ("grad_norm", "gradient norm")):
    for name in curves:
      if name != OURS:
        header.append(f"{name}, {words}")
        columns.append(distance(curves, name, figure))
  lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
  ours = curves[OURS]["loss"]
  theirs = curves[TWIN]["loss"]
  for step in table_steps(len(ours)):
    index = step - 1
    cells = [f"{step}", f"{ours[index]:.5f}", f"{theirs[index]:.5f}"]
    for distances in columns:
      cells.append(f"{distances[index]:.1e}")
    lines.append(f"| {' | '.join(cells)} |")
  return lines


def table_steps(steps: int) -> Sequence[int]:
  """The steps that the table shows."""
  return [step for step in TABLE_STEPS if step < steps] + [steps]


def draw_curves(path: pathlib.Path, curves: Curves, verdict: Verdict, title: str) -> bool:
  """Draws the losses and, on a log axis, the distances.

  Returns False if matplotlib is not installed.
  """
  try:
    import matplotlib
  except ImportError:
    return False
  matplotlib.use("Agg")
  from matplotlib import pyplot

  figure, (above, below) = pyplot.subplots(2, 1, figsize=(7, 6.4), sharex=True)
  above.set_title(title)
  _draw_losses(above, curves)
  _draw_distances(below, curves, verdict)
  for axes in (above, below):
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
  figure.tight_layout()
  figure.savefig(path, dpi=80)
  pyplot.close(figure)
  return True


def _draw_losses(axes: Any, curves: Curves) -> None:
  ours = curves[OURS]["loss"]
  theirs = curves[TWIN]["loss"]
  steps = range(1, len(ours) + 1)
  axes.plot(steps, ours, label="FiLax", linewidth=2.5, color="tab:blue")
  axes.plot(steps, theirs, "--", label="PyTorch twin", linewidth=1, color=ORANGE)
  axes.set_ylabel("loss")


def _draw_distances(axes: Any, curves: Curves, verdict: Verdict) -> None:
  steps = range(1, len(curves[OURS]["loss"]) + 1)
  for name, (label, color) in LINES.items():
    if name in curves:
      away = distance(curves, name) + FLOOR
      axes.plot(steps, away, label=label, linewidth=1, color=color)
  allowed = allowed_distance(distance(curves, CONTROL))
  axes.plot(steps, allowed, ":", label="allowed for a twin", linewidth=1.5, color="tab:red")
  passed_at = verdict.control_passed_at
  if passed_at is not None:
    label = f"the control passes {CHAOS:g}: step {passed_at}"
    axes.axvline(passed_at, color="black", linewidth=0.8, label=label)
  axes.set_yscale("log")
  axes.set_ylabel("distance of the loss from FiLax")
  axes.set_xlabel("step")
