# SPDX-License-Identifier: Apache-2.0
"""Spans of time in answers, as VideoChat-Flash and lmms-eval read them (Charades-STA).

Numbers are matched without backtracking, so that a text of digits alone takes linear time.
"""

from collections.abc import Iterable, Sequence
import math
import re

Span = tuple[float, float]  # Start and end in seconds.

# An example in a prompt. Answers may repeat it, so it is removed.
EXAMPLE = "a specific example is : 20.8 - 30.0 seconds"
KEYWORDS = ("start", "end", "happen")
_PIECES = re.compile(r"[!?\n]")
_DASH = r"\s*+[\u2013-]\s*+"
_LOOSE_NUMBER = r"(\d++\.*+\d*+)"
_LOOSE_RANGE = re.compile(rf"(?<!\d){_LOOSE_NUMBER}\s*+-\s*+{_LOOSE_NUMBER}")
_NUMBER = r"(\d++(?:\.\d++)?+)"
_RANGE = re.compile(rf"(?<!\d){_NUMBER}{_DASH}{_NUMBER}")
_RANGE_OF_SECONDS = re.compile(rf"(?<!\d){_NUMBER}\s*+(?:s{_DASH}|{_DASH}){_NUMBER}")
_SEPARATE_NUMBER = re.compile(r"\b(?:\d+\.\d+|\d+)\b")
_LONG_CLOCK = re.compile(r"\b\d{1,2}:\d{2}:\d{2}\b")
_TIME_OF_DAY = r"\d{1,2}:\d{2}(?::\d{2})?"
_CLOCK = re.compile(rf"\b{_TIME_OF_DAY}\b")
_CLOCK_RANGE = re.compile(rf"\b({_TIME_OF_DAY}){_DASH}({_TIME_OF_DAY})\b")


def parse_span_vcf(text: str) -> Span | None:
  """The first span by VideoChat-Flash's rule.

  It is None if there is no span. VideoChat-Flash then takes 10 to 20 seconds after the right end,
  which has no overlap either.
  """
  text = _plain_text(text)
  pieces = _pieces_with_keywords(text)
  loose_range = _LOOSE_RANGE.search(text)
  if loose_range is not None:
    return _ordered(loose_range.groups())
  return _ordered(_first_numbers(pieces)) or _ordered(_first_clocks(pieces))


def parse_span_lmms(text: str) -> Span | None:
  """The first span by lmms-eval's rule; None if there is no span."""
  text = _plain_text(text)
  pieces = _pieces_with_keywords(text) or _PIECES.split(text)
  clock_range = _first_match(_CLOCK_RANGE, pieces)
  if clock_range is not None:
    return _ordered(clock_range.groups())
  number_range = _first_match(_RANGE, pieces)
  if number_range is not None:
    return _ordered(number_range.groups())
  span = _ordered(_all_clocks(pieces)) or _ordered(_first_numbers(pieces))
  if span is not None:
    return span
  range_of_seconds = _first_match(_RANGE_OF_SECONDS, pieces)
  return None if range_of_seconds is None else _ordered(range_of_seconds.groups())


def intersection_over_union(span: Span, other: Span) -> float:
  """The overlap of two spans by their hull, 0 to 1."""
  start, stop = span
  other_start, other_stop = other
  hull = max(stop, other_stop) - min(start, other_start)
  if hull <= 0:
    return 0.0
  overlap = min(stop, other_stop) - max(start, other_start)
  return max(overlap, 0.0) / hull


def _plain_text(text: str) -> str:
  """Lower case, with a dash for every "to"."""
  return text.lower().replace(EXAMPLE, "").replace("to", "-")


def _pieces_with_keywords(text: str) -> list[str]:
  pieces = []
  for piece in _PIECES.split(text):
    if any(keyword in piece for keyword in KEYWORDS):
      pieces.append(piece)
  return pieces


def _first_match(pattern: re.Pattern, pieces: Iterable[str]) -> re.Match | None:
  """The match in the first piece that has one."""
  for piece in pieces:
    match = pattern.search(piece)
    if match is not None:
      return match
  return None


def _first_numbers(pieces: Iterable[str]) -> list[str]:
  """The first number of every piece that has one."""
  numbers = []
  for piece in pieces:
    number = _SEPARATE_NUMBER.search(piece)
    if number is not None:
      numbers.append(number[0])
  return numbers


def _first_clocks(pieces: Iterable[str]) -> list[str]:
  """The first time H:MM:SS of every piece that has one."""
  clocks = []
  for piece in pieces:
    clock = _LONG_CLOCK.search(piece)
    if clock is not None:
      clocks.append(clock[0])
  return clocks


def _all_clocks(pieces: Iterable[str]) -> list[str]:
  clocks: list[str] = []
  for piece in pieces:
    clocks += _CLOCK.findall(piece)
  return clocks


def _ordered(times: Sequence[str]) -> Span | None:
  """The first two times, the smaller one first.

  None for fewer, or for what is not a number ("1..5").
  """
  if len(times) < 2:
    return None
  try:
    first = _seconds(times[0])
    second = _seconds(times[1])
  except ValueError:
    return None
  if not math.isfinite(first) or not math.isfinite(second):
    return None
  return min(first, second), max(first, second)


def _seconds(time: str) -> float:
  """Seconds of "5.5", "1:05" or "0:01:05"."""
  seconds = 0.0
  for part in time.split(":"):
    seconds = seconds * 60 + float(part)
  return seconds
