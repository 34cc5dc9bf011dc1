# SPDX-License-Identifier: Apache-2.0
"""Multiple choice: the letter that an answer gives is compared with the right one."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Literal

from filax.evals.kit import Example, Score
from filax.evals.metrics.options import LETTERS, without_letter

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

  The answer is a capital letter, the text of an option as it stands (the first of equals), or a
  letter in another form ("(b)", "B. a dog"). A publisher keeps some answers, and two of MLVU's are
  no option.
  """
  letters = LETTERS[: len(example.options)] or LETTERS
  answer = example.answer.strip()
  if not answer:
    return None
  if len(answer) == 1 and answer in letters:
    return answer
  for text in (answer, without_letter(answer)):
    for letter, option in zip(letters, example.options, strict=False):
      if text == option.strip():
        return letter
  alone = answer.strip("(). ").upper()
  return alone if len(alone) == 1 and alone in letters else None
