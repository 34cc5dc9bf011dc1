# SPDX-License-Identifier: Apache-2.0
"""Numbers of a text, in digits or in English words."""

from collections.abc import Iterator
import re

_UNITS = (
  "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
  "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = dict(dozen=12, hundred=100, thousand=1000)
VALUES = dict(once=1, twice=2, thrice=3)
VALUES.update((word, number) for number, word in enumerate(_UNITS))
VALUES.update((word, 20 + 10 * number) for number, word in enumerate(_TENS))
MOST_DIGITS = 15  # A longer number is no count, and float64 would not hold it.
_WORD = re.compile(r"\d++(?:,\d{3}(?!\d))*+(?:\.\d++)?+|[a-z]++|[^\sa-z\d-]")


def numbers_of(text: str) -> list[float]:
  """The numbers in order: "3 of twenty-one" -> [3, 21].

  Thousands may be written "1,000"; numbers of more than 15 digits are left out.
  """
  return list(_numbers(_WORD.findall(text.lower())))


def _numbers(words: list[str]) -> Iterator[float]:
  spoken: float | None = None  # The number in words that may continue.
  for word in words:
    if spoken is not None and word in _SCALES:
      spoken *= _SCALES[word]
      continue
    if spoken is not None and word == "and" and spoken % 100 == 0:
      continue
    value = VALUES.get(word)
    if spoken is not None and value is not None and _continues(spoken, value):
      spoken += value
      continue
    if spoken is not None:
      yield spoken
    spoken = value
    if word[0].isdecimal() and len(word) <= MOST_DIGITS:
      yield float(word.replace(",", ""))
    elif word in _SCALES:
      spoken = float(_SCALES[word])
  if spoken is not None:
    yield spoken


def _continues(spoken: float, value: float) -> bool:
  """Whether a number word goes on: "twenty one", "two hundred fifty"."""
  if spoken and spoken % 100 == 0:
    return value < 100
  return 20 <= spoken % 100 and spoken % 10 == 0 and 1 <= value <= 9
