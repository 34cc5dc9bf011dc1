# SPDX-License-Identifier: Apache-2.0
"""Records of JSON text with their places: an array or a sequence.

The text is read part by part, so a manifest may be larger than the memory. A damaged value becomes
one RecordError in place of its record, however many lines it covers.
"""

from collections.abc import Iterator
import json
import re
import threading
from typing import Any, NamedTuple

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import ManifestError, RecordError, place_text
from data_pipelines.manifest.text_window import TextWindow, byte_length, may_be_cut

DEEPEST = 100  # Maximum nesting of lists and objects. Python's own limit depends on the caller.
_BEHIND = 64  # Characters behind a line that are decoded with it.
_GROWTH = 8  # A value of several lines is decoded in parts that grow by this factor.
SPACE = re.compile(r"[ \t\r\n]*")
_BLANK = re.compile(r"[ \t\r]*")
_GOES_ON = ("[", "{", ",", ":")  # Line endings of a value that continues in the next line.
_MIDDLE = re.compile(r'["\]}\[0-9-]|true|false|null|[ \t]')  # Line beginnings inside a value.


class LocatedRecord(NamedTuple):
  """A record, or the RecordError in its place, and where it stands."""

  line: int  # Its first line, from 1.
  record: Any
  start: int  # Bytes in the file; in an ArrayRecord, the number of the record, from 0.
  stop: int
  nth: int = 1  # Among the records that begin on its line: an array may be a single line.

  @property
  def place(self) -> str:
    """Its place in the manifest, which no other record has."""
    return place_text(self.line, self.nth)


class ValueDecoder:
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


_of_thread = threading.local()  # Its decoder: making one takes as long as a short record.


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
  match = SPACE.match(text)
  start = 0 if match is None else match.end()
  if not hasattr(_of_thread, "decoder"):
    _of_thread.decoder = ValueDecoder()
  value, end = _of_thread.decoder.decode_value(text, start)
  if isinstance(value, RecordError):
    raise value
  rest = text[end:].strip()
  if rest:
    raise ValueError(f"{excerpt(rest)} follows it")
  return value


def array_records(window: TextWindow) -> Iterator[LocatedRecord]:
  """The elements of a text that is a single array.

  Elements before the first damage are kept.
  """
  decoder = ValueDecoder()
  counter = PlaceCounter(window)
  place = place_past(SPACE, window, 0) + 1
  while True:
    place = counter.drop_before(place_past(SPACE, window, place))
    line = counter.line_at(place)
    if window.text[place : place + 1] == "]":
      yield from _behind(window, counter, place + 1)
      return
    try:
      element, end = decoded_value(decoder, window, place)
    except ManifestError:
      raise
    except (ValueError, RecursionError) as error:
      reason = f"is not JSON, and the rest cannot be read: {window.message(error)}"
      yield counter.located(line, RecordError(reason), place, place)
      return
    yield counter.located(line, element, place, end)
    place = place_past(SPACE, window, end)
    if window.text[place : place + 1] not in (",", "]"):
      line = counter.line_at(place)
      damage = RecordError("is not followed by , or ], and the rest cannot be read")
      yield counter.located(line, damage, place, place)
      return
    if window.text[place] == ",":
      place += 1


def decoded_value(decoder: ValueDecoder, window: TextWindow, place: int) -> tuple[Any, int]:
  """Decodes the value at `place`, reading on while the window cuts it."""
  while True:
    try:
      value, end = decoder.decode_value(window.text, place)
    except (ValueError, RecursionError) as error:
      if window.complete or not may_be_cut(error, len(window.text)):
        raise
    else:
      if end < len(window.text) or window.complete:  # A number at the cut might continue.
        return value, end
    window.extend()


def _decoded_line(decoder: ValueDecoder, window: TextWindow, place: int) -> tuple[Any, int]:
  """Decodes the value that begins a line at `place`.

  Only its line and a little more is decoded first. The decoder counts the lines of its whole text
  for every error, so a window full of broken lines would be counted once a line. Positions of
  errors are relative to `place`.
  """
  size = _line_end(window, place) - place + _BEHIND
  while True:
    part = window.text[place : place + size]
    is_last = len(part) < size and window.complete
    try:
      value, end = decoder.decode_value(part, 0)
    except (ValueError, RecursionError) as error:
      if is_last or not may_be_cut(error, len(part)):
        raise
    else:
      if end < len(part) or is_last:
        return value, place + end
    if len(part) < size:
      window.extend()
    else:
      size *= _GROWTH


class PlaceCounter:
  """Lines and bytes of places in a window, counted in ascending order."""

  def __init__(self, window: TextWindow):
    self._window = window
    self._line_place = 0
    self._line = window.line
    self._byte_place = 0
    self._byte = window.bytes
    self._record_line = 0  # That of the newest record.
    self._nth = 0

  def drop_before(self, place: int) -> int:
    """Lets the window drop what is before `place`.

    Returns the new place.
    """
    self.line_at(place)
    self.byte_at(place)
    place_after = self._window.drop_before(place)
    self._line_place -= place - place_after
    self._byte_place -= place - place_after
    return place_after

  def line_at(self, place: int) -> int:
    """The line of a place."""
    self._line += self._window.text.count("\n", self._line_place, place)
    self._line_place = place
    return self._line

  def byte_at(self, place: int) -> int:
    """The byte of the file at which a place lies."""
    if place > self._byte_place:
      self._byte += byte_length(self._window.text[self._byte_place : place])
      self._byte_place = place
    return self._byte

  def located(self, line: int, record: Any, place: int, end: int) -> LocatedRecord:
    """A record that reaches from `place` to `end`."""
    start = self.byte_at(place)
    self._nth = self._nth + 1 if line == self._record_line else 1
    self._record_line = line
    return LocatedRecord(line, record, start, self.byte_at(end), self._nth)


def _behind(window: TextWindow, counter: PlaceCounter, place: int) -> Iterator[LocatedRecord]:
  """An error for text after the end of an array.

  Yields nothing without such text.
  """
  start = place_past(SPACE, window, place)
  while len(window.text) < start + 100 and window.extend():
    pass
  if start < len(window.text):
    beginning = excerpt(window.text[start : start + 100])
    error = RecordError(
      f"is behind the end of the array and is not read: {beginning}; a manifest is one array, or "
      "one record a line"
    )
    yield counter.located(counter.line_at(start), error, start, start)


def line_records(window: TextWindow) -> Iterator[LocatedRecord]:
  """Values that each begin on their own line."""
  decoder = ValueDecoder()
  counter = PlaceCounter(window)
  place = place_past(SPACE, window, 0)
  while True:
    place = counter.drop_before(place)
    if place >= len(window.text):
      return
    line = counter.line_at(place)
    try:
      record, value_end = _decoded_line(decoder, window, place)
      end = place_past(_BLANK, window, value_end)
      reason = _trailing(window, end)
    except ManifestError:
      raise
    except (ValueError, RecursionError) as error:
      end = value_end = place
      reason = f"is not JSON: {window.message(error, place, line)}"
    following = _line_end(window, end)
    if reason:
      following = _broken_end(decoder, window, following)
      more = window.text.count("\n", place, following - 1)
      if more:
        reason += f"; so is what follows it, to line {line + more}"
      record = RecordError(reason)
    yield counter.located(line, record, place, value_end)
    place = place_past(SPACE, window, following)


def _trailing(window: TextWindow, end: int) -> str:
  """The error about text after a value on its line, or "".

  end: where the value ends.
  """
  text = window.text
  if end == len(text) or text[end] == "\n":
    return ""
  line_end = _line_end(window, end)
  rest = window.text[end:line_end].strip()
  return f"is not a JSON record of its own: {excerpt(rest)} follows it"


def place_past(blanks: re.Pattern[str], window: TextWindow, place: int) -> int:
  """Where the blanks that begin at `place` end."""
  while True:
    match = blanks.match(window.text, place)
    end = place if match is None else match.end()
    if end < len(window.text) or not window.extend():
      return end


def _line_end(window: TextWindow, place: int) -> int:
  """The start of the line after `place`."""
  while True:
    end = window.text.find("\n", place)
    if end >= 0:
      return end + 1
    if not window.extend():
      return len(window.text)


def _broken_end(decoder: ValueDecoder, window: TextWindow, place: int) -> int:
  """The end of a broken value, known to reach at least `place`.

  Following lines belong to it if they look like the inside of a value and not like a record.
  """
  end = place
  first = True
  line_start = window.text.rfind("\n", 0, place - 1) + 1
  before = window.text[line_start:place].rstrip()
  while _reaches(window, place):
    following = _line_end(window, place)
    line = window.text[place:following]
    if line.strip():
      if not _is_inside(line, before, first) or _stands_alone(decoder, line):
        break
      first = False
      before = line.rstrip()
      end = following
    place = following
  return end


def _reaches(window: TextWindow, place: int) -> bool:
  """Whether the text continues at `place`."""
  return place < len(window.text) or (window.extend() and place < len(window.text))


def _is_inside(line: str, before: str, first: bool) -> bool:
  """Whether a line looks like a part of a broken value.

  before: the value's previous line. Two damaged records may follow each other, the first cut after
  a comma: so the `first` inner line must itself end like an unfinished value.
  """
  if _MIDDLE.match(line):
    return True
  goes_on = line.rstrip().endswith(_GOES_ON)
  return before.endswith(_GOES_ON) and (goes_on or not first)


def _stands_alone(decoder: ValueDecoder, line: str) -> bool:
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
