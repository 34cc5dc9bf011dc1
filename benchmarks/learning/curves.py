# SPDX-License-Identifier: Apache-2.0
"""Runs FiLax, its control and its twin in step, batch by batch."""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import time
from typing import Any

import numpy as np

from benchmarks.learning.ours import FilaxRun, one_ulp_away
from benchmarks.learning.recipe import Recipe
from benchmarks.learning.twin import TWINS, Batch, TwinRun
from filax.progress import ProgressLine
from filax.train import setup

RUNS = ("filax", "control", "twin")
FIGURES = ("loss", "grad_norm")
WEIGHT = "projector/linear_1/kernel"  # Every visual token passes through it.

Curves = dict[str, dict[str, list[float]]]  # Run -> figure -> its value at every step.


@dataclasses.dataclass(frozen=True)
class Comparison:
  """The curves of a model's runs, and what they cost."""

  curves: Curves
  seconds: Mapping[str, float]  # Run -> seconds of its steps.
  nudge: Mapping[str, Any]  # The weight that differs in the control.


def compare_runs(recipe: Recipe, steps: int) -> Comparison:
  """Trains for `steps` steps on the recipe's own batches.

  The twin starts from the exported parameters, the control one ulp away in one weight.
  """
  program = setup.train_step(recipe.config, recipe.setup)
  nudged, before, after = one_ulp_away(recipe.first.params, WEIGHT)
  twin = TWINS[recipe.model](recipe.export)
  runs = dict(
    filax=FilaxRun(recipe, program, recipe.first.params),
    control=FilaxRun(recipe, program, nudged),
    twin=TwinRun(twin, recipe.config["optim"], recipe.config["steps"]),
  )
  with recipe.pipeline.batches() as batches:
    curves, seconds = run_in_step(runs, batches, steps)
  nudge = dict(weight=WEIGHT, before=before, after=after)
  return Comparison(curves, seconds, nudge)


def run_in_step(
  runs: Mapping[str, Any], batches: Iterator[Batch], steps: int
) -> tuple[Curves, dict[str, float]]:
  """Gives every batch to each run -> (curves, seconds of each run)."""
  curves: Curves = {name: {figure: [] for figure in FIGURES} for name in runs}
  seconds = dict.fromkeys(runs, 0.0)
  start = time.monotonic()
  with ProgressLine(steps) as line:
    for number in range(1, steps + 1):
      batch = next(batches)
      for name, run in runs.items():
        began = time.perf_counter()
        figures = run.step(batch)
        seconds[name] += time.perf_counter() - began
        for figure in FIGURES:
          curves[name][figure].append(figures[figure])
      words = functools.partial(progress_words, curves, number, steps, start)
      line.show(number, words)
    line.end(words, always=True)
  return curves, seconds


def progress_words(curves: Curves, number: int, steps: int, start: float) -> str:
  """Step, loss, differences, seconds left."""
  each = (time.monotonic() - start) / number
  losses = {name: curves[name]["loss"][-1] for name in curves}
  twin = abs(losses["twin"] - losses["filax"])
  control = abs(losses["control"] - losses["filax"])
  return (
    f"step {number} of {steps}: loss {losses['filax']:.4f}, twin {twin:.1e} away, control "
    f"{control:.1e}, {each:.1f} s a step, {each * (steps - number):.0f} s left"
  )


def differences(curves: Curves, figure: str = "loss") -> dict[str, np.ndarray]:
  """Distances of twin and control from FiLax, float64 [steps]."""
  ours = np.array(curves["filax"][figure])
  return {name: np.abs(np.array(curves[name][figure]) - ours) for name in ("twin", "control")}
