# SPDX-License-Identifier: Apache-2.0
"""Members of one large JSON object, read one by one."""

from collections.abc import Collection, Iterator
import json
import re
from typing import Any, NamedTuple

from data_pipelines.manifest.excerpts import excerpt, one_line
from data_pipelines.manifest.report import ManifestError
from data_pipelines.manifest.text_window import TextWindow, may_be_cut

_SPACE = re.compile(r"[ \t\r\n]*")
DEEPEST = 4  # Of the members that are entered.


class JsonMember(NamedTuple):
  """A member of an object or an element of an array."""

  line: int  # Where its value begins.
  name: str  # The object's key; that of the array for an element.
  value: Any


def json_members(path: str, entered: Collection[str] = ()) -> Iterator[JsonMember]:
  """The members of the object in a file.

  entered: keys whose objects and arrays are read member by member, too, in place of themselves. The
  file is read part by part. Raises ManifestError, also after some members.
  """
  try:
    with open(path, "rb") as file:
      text = _Text(TextWindow(file, path))
      if text.peek() == "\ufeff":
        text.skip()
      yield from _members(text, "", entered, 0)
  except (OSError, ValueError, RecursionError) as error:
    raise ManifestError(f"The file {one_line(path)} cannot be read: {error}.") from error


class _Text:
  """A place in the text of a file."""

  def __init__(self, window: TextWindow):
    self._window = window
    self._place = 0
    self._line_place = 0
    self._line = 1
    self._decoder = json.JSONDecoder()

  def peek(self) -> str:
    """The next character that is not a blank; "" at the end."""
    while True:
      match = _SPACE.match(self._window.text, self._place)
      self._place = match.end() if match else self._place
      if self._place < len(self._window.text):
        return self._window.text[self._place]
      if not self._window.extend():
        return ""

  def skip(self) -> None:
    """Goes on by a character."""
    self._place += 1

  def read_symbol(self, wanted: str) -> str:
    """The next character, which is one of `wanted`. Raises ValueError."""
    character = self.peek()
    if not character or character not in wanted:
      what = excerpt(character) if character else "the end of the file"
      raise ValueError(f"line {self.line()} has {what} where {' or '.join(wanted)} is expected")
    self.skip()
    return character

  def line(self) -> int:
    """The line of the place."""
    self._line += self._window.text.count("\n", self._line_place, self._place)
    self._line_place = self._place
    return self._line

  def value(self) -> Any:
    """Reads a value."""
    self.peek()
    self.line()
    self._place = self._window.drop_before(self._place)
    self._line_place = self._place
    while True:
      try:
        value, end = self._decoder.raw_decode(self._window.text, self._place)
      except ValueError as error:
        if self._window.complete or not may_be_cut(error, len(self._window.text)):
          raise ValueError(self._window.message(error)) from None
      else:
        if end < len(self._window.text) or self._window.complete:
          self._place = end
          return value
      self._window.extend()


def _members(text: _Text, name: str, entered: Collection[str], depth: int) -> Iterator[JsonMember]:
  """The members of the object or array that begins here."""
  opening = text.read_symbol("{" if depth == 0 else "{[")
  closing = "}" if opening == "{" else "]"
  if text.peek() == closing:
    text.skip()
    return
  while True:
    key = name
    if closing == "}":
      key = text.value()
      if not isinstance(key, str):
        raise ValueError(f"line {text.line()} has a key that is not a text")
      text.read_symbol(":")
    enters = closing == "}" and key in entered and depth < DEEPEST
    if enters and text.peek() in ("{", "["):
      yield from _members(text, key, entered, depth + 1)
    else:
      text.peek()
      line = text.line()
      yield JsonMember(line, key, text.value())
    if text.read_symbol("," + closing) == closing:
      return
