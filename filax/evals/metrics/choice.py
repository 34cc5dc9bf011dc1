# SPDX-License-Identifier: Apache-2.0
"""Multiple choice: compares the letter of an answer with the right one."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Literal

from filax.evals.kit import Example, Score
from filax.evals.metrics.options import LETTERS, without_letter

Extractor = Callable[[str, Sequence[str]], str | None]  # (text, options) -> letter or None.


@dataclasses.dataclass(frozen=True)
class Choice:
  """The share of right letters, by a rule of filax.evals.metrics.extractors.

  `counts` names the answers of the denominator:

    all       all answers
    parsed    answers with a letter, as by the authors of Video-MME and LVBench
    nonempty  answers with text, as for MVBench in lmms-eval and VideoChat-Flash
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
    counted = sum(map(self._is_counted, scores))
    if counted == len(scores):
      return dict(accuracy=right / counted)
    accuracy = right / counted if counted else 0.0
    return dict(accuracy=accuracy, accuracy_all=right / len(scores))

  def _is_counted(self, score: Score) -> bool:
    if self.counts == "parsed":
      return score.parsed
    if self.counts == "nonempty":
      return not score.empty
    return True


def gold_letter(example: Example) -> str | None:
  """The letter of the right option; None if no option is right.

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
  texts = [option.strip() for option in example.options]
  for text in (answer, without_letter(answer)):
    if text in texts:
      return letters[texts.index(text)]
  letter = answer.strip("(). ").upper()
  if len(letter) == 1 and letter in letters:
    return letter
  return None
