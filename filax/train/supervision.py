# SPDX-License-Identifier: Apache-2.0
"""Ends a run after many steps in a row without supervised tokens."""

from collections.abc import Mapping

from filax.train.hooks import Hook, RunFacts
from filax.train.workdir import QUARANTINE, local_folder

STEPS = 20  # A run ends after this many in a row.


class NothingToLearn(ValueError):
  """A number of steps in a row had no supervised token."""


class Supervision(Hook):
  """Counts the steps in a row without a supervised token."""

  def __init__(self):
    self._steps = 0
    self._bad = 0  # Samples of these steps whose media could not be read.
    self._listed = QUARANTINE

  def begin(self, run: RunFacts) -> None:
    self._listed = str(local_folder(run.workdir) / QUARANTINE)

  def step(self, number: int, metrics: Mapping[str, float]) -> None:
    """Raises NothingToLearn at the last of STEPS such steps."""
    if metrics["supervised"]:
      self._steps = 0
      self._bad = 0
      return
    self._steps += 1
    self._bad += int(metrics["num_bad"])
    if self._steps < STEPS:
      return
    reason = "config.data.labels and config.data.template leave none in these samples"
    if self._bad:
      reason = f"the media of {self._bad} of their samples cannot be read, see {self._listed}"
    raise NothingToLearn(
      f"Steps {number - self._steps + 1} to {number} had no supervised token: {reason}. Set "
      "config.data.root to where the media are, or config.data.exclude to a list of those to leave "
      "out."
    )
