# SPDX-License-Identifier: Apache-2.0
"""TempCompass's matching rules, without its judge.

An answer that fits no rule is wrong.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
from typing import NamedTuple

from filax.evals.kit import Example, Score
from filax.evals.metrics.averages import named_mean
from filax.evals.metrics.choice import gold_letter

MULTI_CHOICE = "multi-choice"
YES_NO = "yes_no"
CAPTION_MATCHING = "caption_matching"
LABELS = ("Sentence ", "Option ", "Caption ")


@dataclasses.dataclass(frozen=True)
class TempCompass:
  """Accuracy by the rules of a task.

  `task` is "multi-choice", "yes_no" or "caption_matching"; "" takes the example's field "task".
  """

  task: str = ""
  headline: str = "accuracy"

  def score(self, text: str, example: Example) -> Score:
    """1 if a rule of the task finds the right answer.

    Raises ValueError for an unknown task.
    """
    task = self.task or example.fields.get("task")
    if task not in RULES:
      raise ValueError(f"{example.id} has the task {task!r}. The tasks are: {', '.join(RULES)}.")
    return RULES[task](text.strip(), example)

  def average(self, scores: Sequence[Score]) -> dict[str, float]:
    """The share of right answers."""
    return named_mean(scores, self.headline)


def labelled_letter(text: str) -> str | None:
  """The letter of "A", "A. text" or "A) text"."""
  if not text.startswith(("A", "B", "C", "D")):
    return None
  if text[1:2] not in ("", ".", ")"):
    return None
  return text[0]


def multi_choice_score(text: str, example: Example) -> Score:
  """The verdict on a letter, or on the right line."""
  letter = labelled_letter(text)
  if letter is not None:
    right = gold_letter(example) or example.answer[:1]
    return Score(float(letter == right), letter)
  if text and text == example.answer:
    return Score(1.0, text)
  return Score(0.0, empty=not text)


def yes_no_score(text: str, example: Example) -> Score:
  """The verdict on a text that begins with yes or no.

  By this rule, "Nothing" begins with no.
  """
  right = example.answer.strip().lower()
  for word in ("yes", "no"):
    if text.lower().startswith(word):
      return Score(float(word == right), word)
  return Score(0.0, empty=not text)


def caption_matching_score(text: str, example: Example) -> Score:
  """The verdict on an option's line, its sentence or its label.

  The lines are the example's options, else those of the question after its first.
  """
  lines = list(example.options)
  if not lines:
    lines = example.turn.text.strip().split("\n")[1:]
  match = _matched_text(text, lines)
  if match is None:
    return Score(0.0, empty=not text)
  right = CaptionLine.of_text(example.answer)
  return Score(float(match in (example.answer, *right)), match)


class CaptionLine(NamedTuple):
  """An option of caption matching: "Option 1: It falls."."""

  label: str  # "Option 1"
  sentence: str  # "It falls."
  number: str  # "1"

  @classmethod
  def of_text(cls, text: str) -> "CaptionLine":
    """The parts of a line.

    The sentence ends before a further ": ".
    """
    label, _, rest = text.partition(": ")
    sentence, _, _ = rest.partition(": ")
    number = label
    for word in LABELS:
      number = number.replace(word, "")
    return cls(label, sentence, number)


def _matched_text(text: str, lines: Sequence[str]) -> str | None:
  """The line, sentence, label or number that a text names.

  If several do, the last of these kinds, and the last line.
  """
  match = None
  for name, forms in _names(text, lines):
    if name and name in forms:
      match = name
  return match


def _names(text: str, lines: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
  """(name of an option, forms of the text that must equal it)."""
  parts = [CaptionLine.of_text(line) for line in lines]
  for line in lines:
    yield line, (text,)
  pieces = text.split(") ")
  for part in parts:
    yield part.sentence, (text, *pieces[1:2])
  without_stops = text.replace(".", "")
  for part in parts:
    yield part.label, (text, without_stops)
  for part in parts:
    yield part.number, (text, without_stops)


RULES: dict[str, Callable[[str, Example], Score]] = {
  MULTI_CHOICE: multi_choice_score,
  YES_NO: yes_no_score,
  CAPTION_MATCHING: caption_matching_score,
}
