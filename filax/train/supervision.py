# SPDX-License-Identifier: Apache-2.0
"""Ends a run that learns nothing: steps in a row without a supervised token."""

from collections.abc import Mapping

STEPS = 20  # In a row, after which a run ends.


class NothingToLearn(ValueError):
  """Steps in a row had no supervised token."""


class Supervision:
  """Counts the steps in a row without a supervised token."""

  def __init__(self):
    self._steps = 0
    self._bad = 0  # Samples of these steps whose media could not be read.

  def add(self, number: int, numbers: Mapping[str, float]) -> None:
    """Takes the numbers of step `number`: supervised, num_bad. Raises NothingToLearn."""
    if numbers["supervised"]:
      self._steps = self._bad = 0
      return
    self._steps += 1
    self._bad += int(numbers["num_bad"])
    if self._steps < STEPS:
      return
    reason = "config.data.labels and config.data.template leave none in these samples"
    if self._bad:
      reason = f"the media of {self._bad} of their samples cannot be read, see quarantine.jsonl"
    raise NothingToLearn(
      f"Steps {number - self._steps + 1} to {number} had no supervised token: {reason}. Set "
      "config.data.root to where the media are, or config.data.exclude to a list of those to leave "
      "out."
    )
