# SPDX-License-Identifier: Apache-2.0
"""Counting: the number in an answer, in digits or in words."""

from collections.abc import Sequence
import re

from filax.evals.kit import Example, Score
from filax.evals.metrics.numbers_in_words import numbers_of

NEAR = 1  # The error that still counts for `off_by_one`.
_SENTENCE_END = re.compile(r"[!?\n]|\.(?!\d)")
_NOTHING = re.compile(r"\b(?:no|none|nothing|nobody|never)\b", re.IGNORECASE)


class Counting:
  """The share of right numbers, and the mean error.

  `off_by_one` is the share of errors of 1 at most; `MAE` is the mean error over the answers that
  have a number.
  """

  headline = "accuracy"

  def score(self, text: str, example: Example) -> Score:
    """1 if the number is the right one.

    Raises ValueError for a right answer without a number.
    """
    right = counted_number(example.answer)
    if right is None:
      raise ValueError(f"{example.id} has the answer {example.answer!r}, which is not a number.")
    number = counted_number(text)
    if number is None:
      return Score(0.0, empty=not text.strip())
    error = abs(number - right)
    return Score(float(error == 0), f"{number:g}", error=error)

  def average(self, scores: Sequence[Score]) -> dict[str, float]:
    """accuracy, off_by_one, and MAE where any answer has a number."""
    if not scores:
      return {}
    errors = [score.error for score in scores if score.error is not None]
    near = sum(error <= NEAR for error in errors)
    averages = dict(accuracy=sum(score.value for score in scores) / len(scores))
    averages["off_by_one"] = near / len(scores)
    if errors:
      averages["MAE"] = sum(errors) / len(errors)
    return averages


def counted_number(text: str) -> float | None:
  """The number that an answer states; None for no number.

  The first number of the last sentence with one, behind its last "=". "None" is 0 where the text
  has no other number.
  """
  for sentence in reversed(_SENTENCE_END.split(text)):
    _, _, result = sentence.rpartition("=")
    numbers = numbers_of(result)
    if numbers:
      return numbers[0]
  return 0.0 if _NOTHING.search(text) else None
