# SPDX-License-Identifier: Apache-2.0
"""Runs FiLax, its control and its twins in step, batch by batch."""

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
WEIGHT = "projector/linear_1/kernel"  # Every visual token passes through it.

Curves = dict[str, dict[str, list[float]]]  # Run -> figure -> its value at every step.


@dataclasses.dataclass(frozen=True)
class Comparison:
  """The curves of a model's runs, and what they cost."""

  curves: Curves
  seconds: Mapping[str, float]  # Run -> seconds of its steps.
  nudge: Nudge  # Of the control.


def compare_runs(recipe: RunRecipe, steps: int) -> Comparison:
  """Trains for `steps` steps on the recipe's own batches.

  The twin starts from the exported parameters, the control one ulp away in one weight. Where tokens
  are merged by similarity, a second twin merges the pairs that FiLax merges.
  """
  program = setup.train_step(recipe.config, recipe.setup)
  params = recipe.first.params
  nudged, nudge = one_ulp_away(params, WEIGHT)
  ours = FilaxRun(recipe, program, params)
  runs: dict[str, Any] = {}
  if recipe.model == "flash":
    runs[PAIRED] = PairedTwinRun(new_twin(recipe), ours)  # First: it reads what FiLax has now.
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
    """Loss and gradient norm, before the update that it makes."""
    self._twin_run.twin.rounds = self._ours.merged_pairs(batch)
    return self._twin_run.step(batch)


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
  away = []
  for name in curves:
    if name != OURS:
      away.append(f"{name} {distance(curves, name)[-1]:.1e}")
  return (
    f"step {number} of {steps}: loss {loss:.4f}, away: {', '.join(away)}; "
    f"{seconds:.1f} s a step, {left:.0f} s left"
  )


def distance(curves: Curves, name: str, figure: str = "loss") -> np.ndarray:
  """Distance of a run from FiLax, float64 [steps]."""
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
