# SPDX-License-Identifier: Apache-2.0
"""Free answers in a few words.

They are scored by equality after normalisation, and by the overlap of words.
"""

import collections
from collections.abc import Sequence
import dataclasses

from filax.evals.kit import Example, Score
from filax.evals.metrics.averages import named_mean
from filax.evals.metrics.plain_text import normalised, spaced


@dataclasses.dataclass(frozen=True)
class OpenAnswer:
  """The overlap of an answer's words with those of the right answer.

  Case, punctuation and articles do not count. `headline` is "f1", or "accuracy" for answers that
  must be equal. `references` is a column with further right answers, a text or a list; the best one
  counts.
  """

  headline: str = "f1"
  references: str = ""

  def __post_init__(self):
    if self.headline not in ("f1", "accuracy"):
      raise ValueError(f'headline={self.headline!r} is neither "f1" nor "accuracy".')

  def score(self, text: str, example: Example) -> Score:
    """The F1 of words, or 1 for equal words."""
    answer = normalised(text)
    if not answer:
      return Score(0.0, empty=not text.strip())
    value = 0.0
    for right_answer in right_answers(example, self.references):
      reference = normalised(right_answer)
      if self.headline == "accuracy":
        value = max(value, float(answer == reference))
      else:
        value = max(value, word_f1(spaced(answer).split(), spaced(reference).split()))
    return Score(value, answer)

  def average(self, scores: Sequence[Score]) -> dict[str, float]:
    """The mean under the headline's name."""
    return named_mean(scores, self.headline)


def right_answers(example: Example, references: str = "") -> list[str]:
  """The right answer, its references, and those of the column `references`.

  The column holds a text or a list.
  """
  answers = [example.answer, *example.references]
  further = example.fields.get(references) if references else None
  if further is None:
    return answers
  if isinstance(further, str):
    return [*answers, further]
  return [*answers, *further]


def word_f1(words: Sequence[str], right_words: Sequence[str]) -> float:
  """The F1 of two bags of words, as in SQuAD (arXiv:1606.05250)."""
  common = collections.Counter(words) & collections.Counter(right_words)
  count = common.total()
  if not count:
    return 0.0
  precision = count / len(words)
  recall = count / len(right_words)
  return 2 * precision * recall / (precision + recall)
