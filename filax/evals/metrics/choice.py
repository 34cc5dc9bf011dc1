# SPDX-License-Identifier: Apache-2.0
"""Multiple choice: the letter that an answer gives is compared with the right one."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Literal

from filax.evals.kit import Example, Score
from filax.evals.metrics.options import LETTERS, named_option

Extractor = Callable[[str, Sequence[str]], str | None]  # (text, options) -> letter or None.


@dataclasses.dataclass(frozen=True)
class Choice:
  """The share of right letters, read by a rule of filax.evals.metrics.extractors.

  `counts` is the denominator: all answers; those with a letter ("parsed", Video-MME's and LVBench's
  authors); or those that are not empty ("nonempty", MVBench in lmms-eval and VideoChat-Flash).
  """

  extract: Extractor
  counts: Literal["all", "parsed", "nonempty"] = "all"
  headline: str = "accuracy"

  def score(self, text: str, example: Example) -> Score:
    """1 if the letter is the right one."""
    text = text.strip()
    letter = self.extract(text, example.options)
    right = letter is not None and letter == gold_letter(example)
    return Score(float(right), letter, empty=not text)

  def average(self, scores: Sequence[Score]) -> dict[str, float]:
    """`accuracy` by `counts`; `accuracy_all` where the share of all differs."""
    if not scores:
      return {}
    right = sum(score.value for score in scores)
    counted = sum(self._is_counted(score) for score in scores)
    accuracy = right / counted if counted else 0.0
    averages = dict(accuracy=accuracy)
    if counted != len(scores):
      averages["accuracy_all"] = right / len(scores)
    return averages

  def _is_counted(self, score: Score) -> bool:
    if self.counts == "parsed":
      return score.parsed
    return self.counts == "all" or not score.empty


def gold_letter(example: Example) -> str | None:
  """The letter of the right option; None if it is none of the options.

  A capital letter is a letter, even if options are single letters; then a text names the first
  option that equals it. A publisher keeps some answers, and MLVU has two that are no option.
  """
  letters = LETTERS[: len(example.options)] or LETTERS
  if len(example.answer) == 1 and example.answer in letters:
    return example.answer
  if example.answer in example.options:
    return LETTERS[example.options.index(example.answer)]
  return named_option(example.answer, example.options)
