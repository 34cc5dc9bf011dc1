# SPDX-License-Identifier: Apache-2.0
"""The rule of MVBench's authors: one of two labels holds the other."""

from collections.abc import Sequence

from filax.evals.kit import Example, Score
from filax.evals.metrics.averages import named_mean
from filax.evals.metrics.choice import gold_letter


class MvbenchOfficial:
  """The share of first words that hold "(x)", or are held.

  An empty answer is "(" after the prefilled bracket, which every label holds: it counts as right.
  """

  headline = "accuracy"

  def score(self, text: str, example: Example) -> Score:
    """1 if the first word and the right label hold one another.

    The text continues "Best option:(".
    """
    letter = gold_letter(example)
    line, _, _ = text.strip().partition("\n")
    word = f"({line}".lower().split(" ")[0]
    understood = word.strip("().") or None
    if letter is None:
      return Score(0.0, understood, empty=not line)
    label = f"({letter.lower()})"
    right = word.replace(".", "") in label or label in word
    return Score(float(right), understood, empty=not line)

  def average(self, scores: Sequence[Score]) -> dict[str, float]:
    """The share of right answers."""
    return named_mean(scores, self.headline)
