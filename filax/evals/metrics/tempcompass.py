# SPDX-License-Identifier: Apache-2.0
"""TempCompass's matching rules, without its judge: an answer that fits no rule is wrong."""

from collections.abc import Callable, Sequence
import dataclasses

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


def labelled_letter(text: str, options: Sequence[str] = ()) -> str | None:
  """The letter of "A", "A. text" or "A) text"."""
  del options
  letter = text[:1]
  is_label = letter in ("A", "B", "C", "D") and text[1:2] in ("", ".", ")")
  return letter if is_label else None


def multi_choice_score(text: str, example: Example) -> Score:
  """The verdict on a letter, or on the whole right line "A. text"."""
  letter = labelled_letter(text)
  if letter is None and text and text == example.answer:
    return Score(1.0, text)
  if letter is None:
    return Score(0.0, empty=not text)
  right = gold_letter(example) or example.answer[:1]
  return Score(float(letter == right), letter)


def yes_no_score(text: str, example: Example) -> Score:
  """The verdict on a text that begins with yes or no: "Nothing" begins with no."""
  lower_text = text.lower()
  for word in ("yes", "no"):
    if lower_text.startswith(word):
      return Score(float(word == example.answer.strip().lower()), word)
  return Score(0.0, empty=not text)


def caption_matching_score(text: str, example: Example) -> Score:
  """The verdict on an option's line, its sentence or its label ("Option 1", "1").

  The lines are the example's options, else those of the question after its first.
  """
  lines = example.options or tuple(example.turn.text.strip().split("\n")[1:])
  match = _matched_option(text, lines)
  if match is None:
    return Score(0.0, empty=not text)
  label, _, sentence = example.answer.partition(": ")
  right = (example.answer, label, sentence.split(": ")[0], label.split(" ")[-1])
  return Score(float(match in right), match)


def _matched_option(text: str, lines: Sequence[str]) -> str | None:
  """What the text names: a line, its sentence, or its label, the last that fits."""
  match = text if text in lines else None
  _, bracket, behind = text.partition(") ")
  after_bracket = behind.split(") ")[0] if bracket else None
  labels = []
  for line in lines:
    label, _, sentence = line.partition(": ")
    sentence = sentence.split(": ")[0]
    labels.append(label)
    if sentence and sentence in (text, after_bracket):
      match = sentence
  labels += [_without_word(label) for label in labels]
  for label in labels:
    if label and label in (text, text.replace(".", "")):
      match = label
  return match


def _without_word(label: str) -> str:
  """ "Option 1" -> "1"."""
  for word in LABELS:
    label = label.replace(word, "")
  return label


RULES: dict[str, Callable[[str, Example], Score]] = {
  MULTI_CHOICE: multi_choice_score,
  YES_NO: yes_no_score,
  CAPTION_MATCHING: caption_matching_score,
}
