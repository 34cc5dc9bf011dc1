# SPDX-License-Identifier: Apache-2.0
"""The letter of the most telling form: lmms-eval's rule since 2026-04-11.

Used by its tasks videomme, mlvu and lvbench.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

PUNCTUATION = ",.!?;:'\""
PHRASES = (
  "the answer is",
  "answer is",
  "the correct answer is",
  "correct answer is",
  "the best answer is",
  "best answer is",
  "the correct option is",
  "correct option is",
  "the best option is",
  "best option is",
  "the choice is",
  "choice is",
  "the correct choice is",
  "correct choice is",
  "i choose",
  "i select",
  "i pick",
  "my answer is",
  "my choice is",
  "옵션",
  "정답은",
  "답은",
  "답:",
  "答案是",
  "答案为",
  "选",
  "答えは",
)
FORMS = {"({})": 6, "{}.": 5, "{}:": 4, "{})": 3, "{} ": 2}  # Form -> priority.
AFTER_PHRASE = 7
AT_THE_END = 9
AT_THE_START = 10
ANYWHERE = 0


class Candidate(NamedTuple):
  """A letter that a text may choose; the greatest candidate wins."""

  priority: int
  position: int
  order: int  # Breaks ties: the candidate that is met first wins.
  letter: str


def priority_letter(text: str, options: Sequence[str] = (), letters: str = "ABCD") -> str | None:
  """The letter whose form has the highest priority.

  Among equals, it is the last one.
  """
  del options
  text = text.strip()
  for mark in PUNCTUATION:
    text = text.strip(mark)
  text = f" {text} "
  candidates = list(_candidates(text, letters)) or list(_occurrences(text, letters))
  if not candidates:
    return None
  return max(candidates).letter


def _candidates(text: str, letters: str) -> Iterator[Candidate]:
  """The letters in a telling form."""
  order = 0
  for letter, priority, position in _forms(text, letters):
    order -= 1
    yield Candidate(priority, position, order, letter)


def _forms(text: str, letters: str) -> Iterator[tuple[str, int, int]]:
  """(letter, priority, position) in the order in which the published code looks."""
  for form, priority in FORMS.items():
    for letter in letters:
      position = text.rfind(form.format(letter))
      if position >= 0:
        yield letter, priority, position
  lower_text = text.lower()
  for phrase in PHRASES:
    start = lower_text.find(phrase)
    if start < 0:
      continue
    for letter in letters:
      position = text.find(letter, start + len(phrase))
      if position >= 0:
        yield letter, AFTER_PHRASE, position
  words = text.strip()
  for letter in letters:
    if words.startswith(letter) and not words[1:2].isalpha():
      yield letter, AT_THE_START, 0
  for letter in letters:
    if words.endswith(letter) and not words[-2:-1].isalpha():
      yield letter, AT_THE_END, len(text) - 1


def _occurrences(text: str, letters: str) -> Iterator[Candidate]:
  """The last occurrence of every letter, also within words."""
  order = 0
  for letter in letters:
    position = text.rfind(letter)
    if position >= 0:
      order -= 1
      yield Candidate(ANYWHERE, position, order, letter)
