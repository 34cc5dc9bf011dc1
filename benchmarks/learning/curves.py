# SPDX-License-Identifier: Apache-2.0
"""Trains FiLax, its control and its twins side by side, batch by batch."""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import time
from typing import Any

import numpy as np

from benchmarks.learning.ours import FilaxRun, Nudge, one_ulp_away
from benchmarks.learning.recipe import RunRecipe
from benchmarks.learning.twin import TWINS, Batch, TwinRun
from benchmarks.learning.verdict import Verdict, judge
from filax.progress import ProgressLine
from filax.train import setup

OURS = "filax"
CONTROL = "control"
TWIN = "twin"
PAIRED = "paired"
WEIGHT = "projector/linear_1/kernel"  # All visual tokens pass through it.

Curves = dict[str, dict[str, list[float]]]  # Run -> "loss" or "grad_norm" -> value of every step.


@dataclasses.dataclass(frozen=True)
class Comparison:
  """The curves of all runs, and the time that each run took."""

  curves: Curves
  seconds: Mapping[str, float]  # Run -> seconds of all its steps.
  nudge: Nudge  # The difference between the first parameters of the control and of FiLax.


def compare_runs(recipe: RunRecipe, steps: int) -> Comparison:
  """Trains all runs for `steps` steps on the batches of the recipe.

  The twin starts from the exported parameters. The control starts from parameters that differ by
  one ulp in one weight. VideoChat-Flash merges tokens by similarity, so it has a second twin, which
  merges the same pairs as FiLax.
  """
  program = setup.train_step(recipe.config, recipe.setup)
  params = recipe.first.params
  nudged, nudge = one_ulp_away(params, WEIGHT)
  ours = FilaxRun(recipe, program, params)
  runs: dict[str, Any] = {}
  if recipe.model == "flash":
    # The first run of the dict: it reads the parameters that FiLax has before the step.
    runs[PAIRED] = PairedTwinRun(new_twin(recipe), ours)
  runs[OURS] = ours
  runs[CONTROL] = FilaxRun(recipe, program, nudged)
  runs[TWIN] = new_twin(recipe)
  with recipe.pipeline.batches() as batches:
    curves, seconds = run_in_step(runs, batches, steps)
  return Comparison(curves, seconds, nudge)


def new_twin(recipe: RunRecipe) -> TwinRun:
  """A twin before its first step."""
  twin = TWINS[recipe.model](recipe.export)
  return TwinRun(twin, recipe.config["optim"], recipe.config["steps"])


class PairedTwinRun:
  """A twin that merges the pairs of tokens that FiLax merges."""

  def __init__(self, twin_run: TwinRun, ours: FilaxRun):
    self._twin_run = twin_run
    self._ours = ours

  def step(self, batch: Batch) -> dict[str, float]:
    """Makes a step; returns loss and gradient norm from before the update."""
    self._twin_run.twin.rounds = self._ours.merged_pairs(batch)
    return self._twin_run.step(batch)


def run_in_step(
  runs: Mapping[str, Any], batches: Iterator[Batch], steps: int
) -> tuple[Curves, dict[str, float]]:
  """Trains every run on each batch.

  Returns the curves, and the seconds that each run took.
  """
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
      progress = functools.partial(progress_words, curves, number, steps, start)
      line.show(number, progress)
    line.end(progress, always=True)
  return curves, seconds


def progress_words(curves: Curves, number: int, steps: int, start: float) -> str:
  """The progress line: step, loss, distances from FiLax, remaining seconds."""
  seconds_per_step = (time.monotonic() - start) / number
  remaining = seconds_per_step * (steps - number)
  loss = curves[OURS]["loss"][-1]
  distances = []
  for name in curves:
    if name != OURS:
      latest = distance(curves, name)[-1]
      distances.append(f"{name} {latest:.1e}")
  return (
    f"step {number} of {steps}: loss {loss:.4f}, distance of {', '.join(distances)}; "
    f"{seconds_per_step:.1f} s a step, {remaining:.0f} s left"
  )


def distance(curves: Curves, name: str, figure: str = "loss") -> np.ndarray:
  """The distance of a run from FiLax, float64 [steps].

  It is the absolute difference of the two curves.
  """
  ours = np.array(curves[OURS][figure])
  theirs = np.array(curves[name][figure])
  return np.abs(theirs - ours)


def judge_twins(curves: Curves) -> dict[str, Verdict]:
  """The verdict on every twin."""
  control = distance(curves, CONTROL)
  verdicts = {}
  for name in (TWIN, PAIRED):
    if name in curves:
      verdicts[name] = judge(distance(curves, name), control)
  return verdicts
