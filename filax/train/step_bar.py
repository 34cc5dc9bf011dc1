# SPDX-License-Identifier: Apache-2.0
"""A bar of the steps of a run, on a terminal."""

from collections.abc import Mapping
import sys
import time

import jax

from filax.progress import Bar, shows_bars
from filax.train import hooks
from filax.train.metrics import metric_of_tokens, shown


class StepBar(hooks.Hook):
  """Steps done, loss and remaining time below the lines of the log.

  Elsewhere than on a terminal it shows nothing: the log's lines are the progress.
  """

  def __init__(self):
    self._bar: Bar | None = None
    self._first = 0
    self._steps = 0
    self._began = 0.0

  def begin(self, run: hooks.RunFacts) -> None:
    if jax.process_index() == 0 and shows_bars(sys.stdout):
      self._bar = Bar(sys.stdout, run.steps)
    self._first = run.first
    self._steps = run.steps

  def step(self, number: int, metrics: Mapping[str, float]) -> None:
    if self._bar is None:
      return
    now = time.monotonic()
    loss = shown(metric_of_tokens(metrics, "loss"), 4)
    words = f"step {number}/{self._steps}, loss {loss}"
    if number - self._first > 1:  # The first step compiles.
      rate = (now - self._began) / (number - self._first - 1)
      minutes = (self._steps - number) * rate / 60
      words += f", {rate:.2f} s/step, {minutes:.0f} min left"
    else:
      self._began = now
    self._bar.show(number, words)

  def end(self, error: BaseException | None) -> None:
    if self._bar is not None:
      self._bar.remove_bar()
