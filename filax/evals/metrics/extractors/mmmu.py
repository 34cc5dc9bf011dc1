# SPDX-License-Identifier: Apache-2.0
"""MMMU's rule: VideoChat-Flash's LongVideoBench, lmms-eval's NExT-QA.

Also lmms-eval's LongVideoBench before 2024-11-13.
"""

from collections.abc import Callable, Sequence

from filax.evals.metrics.options import LETTERS

PUNCTUATION = ",.!?;:'"
FEWEST_WORDS = 6  # In shorter answers, the texts of options are not looked for.


def mmmu_letter(text: str, options: Sequence[str]) -> str | None:
  """The last letter in the best of three forms.

  The forms are "(A)", "A " and "A."; without any, the option whose text comes last is taken.
  None where the published code draws a letter.
  """
  text = padded_text(text)
  letters = LETTERS[: len(options)]
  bracketed = [letter for letter in letters if f"({letter})" in text]
  if bracketed:
    return _last(bracketed, lambda letter: text.rfind(f"({letter})"))
  for form in ("{} ", "{}."):
    candidates = [letter for letter in letters if form.format(letter) in text]
    if candidates:
      return _last(candidates, lambda letter: text.rfind(f" {letter} "))
  positions = option_positions(text, options)
  return _last(list(positions), positions.__getitem__) if positions else None


def padded_text(text: str) -> str:
  """The text without marks at its ends, between two spaces."""
  for mark in PUNCTUATION:
    text = text.strip(mark)
  return f" {text} "


def option_positions(text: str, options: Sequence[str]) -> dict[str, int]:
  """Letter -> last position of its option's words in a longer text.

  It is {} for short texts.
  """
  if len(text.split()) < FEWEST_WORDS:
    return {}
  lower_text = text.lower()
  positions = {}
  for letter, option in zip(LETTERS, options, strict=False):
    position = lower_text.rfind(option.strip().lower())
    if position >= 0:
      positions[letter] = position
  return positions


def _last(letters: Sequence[str], position: Callable[[str], int]) -> str:
  """The letter at the greatest position, the first of equals."""
  return max(letters, key=position)
