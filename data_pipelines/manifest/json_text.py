# SPDX-License-Identifier: Apache-2.0
"""Records of JSON text with their lines: an array or a sequence.

A damaged value becomes one RecordError in place of its record, however many lines it covers.
"""

from collections.abc import Iterator
import json
import re
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError

DEEPEST = 100  # Maximum nesting of lists and objects. Python's own limit depends on the caller.
_SPACE = re.compile(r"[ \t\r\n]*")
_BLANK = re.compile(r"[ \t\r]*")
_GOES_ON = ("[", "{", ",", ":")  # Line endings of a value that continues in the next line.
_MIDDLE = re.compile(r'["\]}\[0-9-]|true|false|null|[ \t]')  # Line beginnings inside a value.


class _Decoder:
  """Decodes JSON values; refuses repeated keys and deep nesting."""

  def __init__(self):
    self._repeated: list[str] = []  # Repeated keys of an object; json keeps the last.
    self._json = json.JSONDecoder(object_pairs_hook=self._members)

  def decode_value(self, text: str, start: int) -> tuple[Any, int]:
    """Decodes the value at `start`: (value, its end).

    A refused value is replaced by a RecordError. Raises ValueError or RecursionError without a
    value.
    """
    self._repeated.clear()
    value, end = self._json.raw_decode(text, start)
    if self._repeated:
      return RecordError(f"has the key {excerpt(self._repeated[0])} twice in one object"), end
    brackets = text.count("[", start, end) + text.count("{", start, end)
    if brackets > DEEPEST and _is_deep(value):
      return RecordError(f"has more than {DEEPEST} lists and objects inside each other"), end
    return value, end

  def _members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
      keys = set()
      for key, _ in pairs:
        if key in keys:
          self._repeated.append(key)
        keys.add(key)
    return members


def _is_deep(value: Any) -> bool:
  """Whether lists and objects are nested deeper than DEEPEST."""
  level = [value]
  for _ in range(DEEPEST + 1):
    below: list[Any] = []
    for item in level:
      if isinstance(item, dict):
        below += item.values()
      elif isinstance(item, list):
        below += item
    level = [item for item in below if isinstance(item, dict | list)]
    if not level:
      return False
  return True


def parse_value(text: str) -> Any:
  """Parses a text of a single value.

  Raises ValueError (RecordError among them) or RecursionError.
  """
  start = _past(_SPACE, text, 0)
  value, end = _Decoder().decode_value(text, start)
  if isinstance(value, RecordError):
    raise value
  rest = text[end:].strip()
  if rest:
    raise ValueError(f"{excerpt(rest)} follows it")
  return value


def array_records(text: str) -> Iterator[tuple[int, Any]]:
  """(line, element) of a text that is a single array.

  Elements before the first damage are kept.
  """
  decoder = _Decoder()
  place = _past(_SPACE, text, 0) + 1
  line = 1
  counted = 0
  while True:
    place = _past(_SPACE, text, place)
    line += text.count("\n", counted, place)
    counted = place
    if text[place : place + 1] == "]":
      yield from _behind(text, place + 1, line)
      return
    try:
      element, place = decoder.decode_value(text, place)
    except (ValueError, RecursionError) as error:
      yield line, RecordError(f"is no JSON, and the rest cannot be read: {error}")
      return
    yield line, element
    place = _past(_SPACE, text, place)
    if text[place : place + 1] not in (",", "]"):
      line += text.count("\n", counted, place)
      yield line, RecordError("is not followed by , or ], and the rest cannot be read")
      return
    if text[place] == ",":
      place += 1


def _behind(text: str, place: int, line: int) -> Iterator[tuple[int, RecordError]]:
  """(line, error) for text after the end of an array.

  Yields nothing without such text.
  """
  start = _past(_SPACE, text, place)
  if start < len(text):
    line += text.count("\n", place, start)
    beginning = excerpt(text[start : start + 100])
    error = RecordError(
      f"is behind the end of the array and is not read: {beginning}; a manifest is one array, or "
      "one record a line"
    )
    yield line, error


def line_records(text: str) -> Iterator[tuple[int, Any]]:
  """(line, value) of values that each begin on their own line."""
  decoder = _Decoder()
  place = _past(_SPACE, text, 0)
  line = 1 + text.count("\n", 0, place)
  while place < len(text):
    try:
      record, end = decoder.decode_value(text, place)
      end = _past(_BLANK, text, end)
      reason = _trailing(text, end)
    except (ValueError, RecursionError) as error:
      end = place
      reason = f"is no JSON: {error}"
    following = _line_end(text, end)
    if reason:
      following = _broken_end(decoder, text, following)
      more = text.count("\n", place, following - 1)
      if more:
        reason += f"; so is what follows it, to line {line + more}"
      record = RecordError(reason)
    yield line, record
    following = _past(_SPACE, text, following)
    line += text.count("\n", place, following)
    place = following


def _trailing(text: str, end: int) -> str:
  """The error about text after a value on its line, or "".

  end: where the value ends.
  """
  if end == len(text) or text[end] == "\n":
    return ""
  rest = text[end : _line_end(text, end)].strip()
  return f"is no JSON record of its own: {excerpt(rest)} follows it"


def _past(blanks: re.Pattern[str], text: str, place: int) -> int:
  """Where the blanks that begin at `place` end."""
  match = blanks.match(text, place)
  return place if match is None else match.end()


def _line_end(text: str, place: int) -> int:
  """The start of the line after `place`."""
  end = text.find("\n", place)
  if end < 0:
    return len(text)
  return end + 1


def _broken_end(decoder: _Decoder, text: str, place: int) -> int:
  """The end of a broken value, known to reach at least `place`.

  Following lines belong to it if they look like the inside of a value and not like a record.
  """
  end = place
  first = True
  before = text[text.rfind("\n", 0, place - 1) + 1 : place].rstrip()
  while place < len(text):
    following = _line_end(text, place)
    line = text[place:following]
    if line.strip():
      if not _is_inside(line, before, first) or _stands_alone(decoder, line):
        break
      first = False
      before = line.rstrip()
      end = following
    place = following
  return end


def _is_inside(line: str, before: str, first: bool) -> bool:
  """Whether a line looks like a part of a broken value.

  before: the value's previous line. Two damaged records may follow each other, the first cut after
  a comma: so the `first` inner line must itself end like an unfinished value.
  """
  if _MIDDLE.match(line):
    return True
  goes_on = line.rstrip().endswith(_GOES_ON)
  return before.endswith(_GOES_ON) and (goes_on or not first)


def _stands_alone(decoder: _Decoder, line: str) -> bool:
  """Whether a line is a complete record.

  A record is an object that is not indented, or has conversations.
  """
  stripped = line.strip()
  try:
    record, end = decoder.decode_value(stripped, 0)
  except (ValueError, RecursionError):
    return False
  if not isinstance(record, dict) or end < len(stripped):
    return False
  return line[0] not in " \t" or "conversations" in record
