# SPDX-License-Identifier: Apache-2.0
"""Numbers of a text, in digits or in English words."""

from collections.abc import Iterator, Sequence
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
MOST_DIGITS = 20  # With commas; a longer number is not a count.
LIMIT = 10.0**15  # float64 holds whole numbers below it.
_WORD = re.compile(r"\d++(?:,\d{3}(?!\d))*+(?:\.\d++)?+|[a-z]++|[^\sa-z\d-]")


def numbers_of(text: str) -> list[float]:
  """The numbers in order: "3 of twenty-one" -> [3, 21].

  Thousands may be written "1,000". Numbers of 10**15 and more are left out.
  """
  numbers = _numbers(_WORD.findall(text.lower()))
  return [number for number in numbers if number < LIMIT]


def _numbers(words: Sequence[str]) -> Iterator[float]:
  spoken: float | None = None  # The number that may continue.
  for word in words:
    value = _value(word)
    if spoken is not None:
      if word in _SCALES:
        spoken *= _SCALES[word]
        continue
      if word == "and" and spoken and spoken % 100 == 0:
        continue
      if value is not None and word in VALUES and _continues(spoken, value):
        spoken += value
        continue
      yield spoken
    spoken = value
  if spoken is not None:
    yield spoken


def _value(word: str) -> float | None:
  """The value of digits or a number word, else None."""
  if word[0].isdecimal():
    return float(word.replace(",", "")) if len(word) <= MOST_DIGITS else None
  value = VALUES.get(word, _SCALES.get(word))
  return None if value is None else float(value)


def _continues(spoken: float, value: float) -> bool:
  """Whether a number word continues: "twenty one", "two hundred fifty"."""
  if spoken and spoken % 100 == 0:
    return value < 100
  return 20 <= spoken % 100 and spoken % 10 == 0 and 1 <= value <= 9
