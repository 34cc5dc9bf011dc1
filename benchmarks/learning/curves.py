# SPDX-License-Identifier: Apache-2.0
"""Runs FiLax, its controls and its twin in step, batch by batch."""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import time
from typing import Any

import numpy as np

from benchmarks.learning.ours import FilaxRun, Nudge, one_ulp_away
from benchmarks.learning.recipe import Recipe
from benchmarks.learning.twin import TWINS, Batch, TwinRun
from filax.progress import ProgressLine
from filax.train import setup

OURS = "filax"
TWIN = "twin"
# Control -> its weights; of the first that match, the largest weight differs by one ulp.
CONTROLS = {
  "encoder": r"^encoder/.*patch_embedding/kernel$",
  "projector": r"^projector/linear_1/kernel$",
  "llm": r"^llm/.*down_proj/kernel$",
}

Curves = dict[str, dict[str, list[float]]]  # Run -> figure -> its value at every step.


@dataclasses.dataclass(frozen=True)
class Comparison:
  """The curves of a model's runs, and what they cost."""

  curves: Curves
  seconds: Mapping[str, float]  # Run -> seconds of its steps.
  nudges: Mapping[str, Nudge]  # Control -> the weight that differs.


def compare_runs(recipe: Recipe, steps: int) -> Comparison:
  """Trains for `steps` steps on the recipe's own batches.

  The twin starts from the exported parameters, each control one ulp away in one weight.
  """
  program = setup.train_step(recipe.config, recipe.setup)
  params = recipe.first.params
  twin = TWINS[recipe.model](recipe.export)
  runs: dict[str, Any] = {OURS: FilaxRun(recipe, program, params)}
  runs[TWIN] = TwinRun(twin, recipe.config["optim"], recipe.config["steps"])
  nudges = {}
  for name, pattern in CONTROLS.items():
    nudged, nudges[name] = one_ulp_away(params, pattern)
    runs[name] = FilaxRun(recipe, program, nudged)
  with recipe.pipeline.batches() as batches:
    curves, seconds = run_in_step(runs, batches, steps)
  return Comparison(curves, seconds, nudges)


def run_in_step(
  runs: Mapping[str, Any], batches: Iterator[Batch], steps: int
) -> tuple[Curves, dict[str, float]]:
  """Gives every batch to each run -> (curves, seconds of each run)."""
  curves: Curves = {name: dict(loss=[], grad_norm=[]) for name in runs}
  seconds = dict.fromkeys(runs, 0.0)
  start = time.monotonic()
  with ProgressLine(steps) as line:
    for number in range(1, steps + 1):
      batch = next(batches)
      for name, run in runs.items():
        began = time.perf_counter()
        figures = run.step(batch)
        seconds[name] += time.perf_counter() - began
        for figure, value in figures.items():
          curves[name][figure].append(value)
      words = functools.partial(progress_words, curves, number, steps, start)
      line.show(number, words)
    line.end(words, always=True)
  return curves, seconds


def progress_words(curves: Curves, number: int, steps: int, start: float) -> str:
  """Step, loss, distances, seconds left."""
  seconds = (time.monotonic() - start) / number
  left = seconds * (steps - number)
  loss = curves[OURS]["loss"][-1]
  twin = twin_distance(curves)[-1]
  control = control_distance(curves)[-1]
  return (
    f"step {number} of {steps}: loss {loss:.4f}, twin {twin:.1e} away, control {control:.1e}, "
    f"{seconds:.1f} s a step, {left:.0f} s left"
  )


def twin_distance(curves: Curves, figure: str = "loss") -> np.ndarray:
  """Distance of the twin from FiLax, float64 [steps]."""
  return distance(curves, TWIN, figure)


def control_distance(curves: Curves, figure: str = "loss") -> np.ndarray:
  """Distance of the farthest control from FiLax, float64 [steps]."""
  distances = [distance(curves, name, figure) for name in CONTROLS]
  return np.max(distances, axis=0)


def distance(curves: Curves, name: str, figure: str = "loss") -> np.ndarray:
  """Distance of a run from FiLax, float64 [steps]."""
  ours = np.array(curves[OURS][figure])
  theirs = np.array(curves[name][figure])
  return np.abs(theirs - ours)
