# SPDX-License-Identifier: Apache-2.0
"""The exact-match metric of custom questions: letters of options, or words."""

from collections.abc import Sequence

from filax.evals.kit import Example, Score
from filax.evals.metrics import letters, options
from filax.evals.metrics.open_answers import right_answers
from filax.evals.metrics.plain_text import normalised


class ExactMatch:
  """Compares the chosen option, or the words of a free answer."""

  headline = "accuracy"

  def score(self, text: str, example: Example) -> Score:
    """1 if the answer is the right one."""
    answer = chosen_letter(text, example) if example.options else free_answer(text)
    if answer is None:
      return Score(0.0)
    return Score(exact_match(answer, example), answer)

  def average(self, scores: Sequence[Score]) -> dict[str, float]:
    """The share of right answers.

    Answers that were not understood count as wrong.
    """
    if not scores:
      return {}
    return dict(accuracy=sum(score.value for score in scores) / len(scores))


def free_answer(text: str) -> str | None:
  """The words of a free answer; None if it has none."""
  return normalised(text) or None


def exact_match(answer: str, example: Example) -> float:
  """1 if the parsed answer is a right one."""
  if example.options:
    return float(answer == right_letter(example))
  return float(answer in map(normalised, right_answers(example)))


def right_letter(example: Example) -> str:
  """The letter of the right option.

  The manifest gives it as a letter, as its text, or as both.

  Raises ValueError if it is none of the options, or if letter and text disagree.
  """
  letter = options.named_option(example.answer, example.options)
  if letter is None:
    raise ValueError(f"has the answer {example.answer!r}, which is not one of its options")
  return letter


def chosen_letter(text: str, example: Example) -> str | None:
  """The letter that a generated text chooses, or None.

  None for no letter, or for more than one. filax.evals.metrics.letters lists the accepted forms.
  """
  return letters.chosen(text, example.options)
