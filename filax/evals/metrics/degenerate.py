# SPDX-License-Identifier: Apache-2.0
"""Recognises generated texts that are not answers: empty, symbols only, or repetitions."""

import re

EMPTY = "empty"
SYMBOLS = "symbols"  # Such as "!!!!": neither a letter nor a digit of any script.
REPEATS = "repeats"  # Mostly one piece of text, again and again.

_TIMES = 4  # Repetitions that count.
_CHARACTERS = 12  # Length of a repetition without spaces that counts: "100000" is a number.
_PHRASE = 50  # Words of the longest phrase that is looked for.
_RUN = re.compile(r"(.{1,40}?)\1{3,}", re.DOTALL)


def answer_flag(text: str) -> str:
  """ "" for an ordinary text, else EMPTY, SYMBOLS or REPEATS."""
  text = text.strip()
  if not text:
    return EMPTY
  if not any(character.isalnum() for character in text):
    return SYMBOLS
  if _repeats_words(text.split()) or _repeats_characters(text):
    return REPEATS
  return ""


def _repeats_characters(text: str) -> bool:
  """Whether repetitions of a piece are half of the text."""
  longest = max((len(match[0]) for match in _RUN.finditer(text)), default=0)
  return longest >= max(_CHARACTERS, len(text) / 2)


def _repeats_words(words: list[str]) -> bool:
  """Whether repetitions of a phrase are half of the words."""
  for size in range(1, min(_PHRASE, len(words) // _TIMES) + 1):
    longest = _longest_period(words, size)
    if longest >= max(_TIMES * size, len(words) / 2):
      return True
  return False


def _longest_period(words: list[str], size: int) -> int:
  """Words of the longest stretch that equals itself `size` words later."""
  longest = 0
  matches = 0
  for word, later in zip(words, words[size:], strict=False):
    matches = matches + 1 if word == later else 0
    longest = max(longest, matches)
  return longest + size if longest else 0
