# SPDX-License-Identifier: Apache-2.0
"""A part of a large text that moves over it, with the position of its start."""

import codecs
import json
from typing import BinaryIO

from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.report import ManifestError

BLOCK = 4 << 20  # Bytes read at a time.
LONGEST = 256 << 20  # Characters of a record, which take some GB once they are parsed.
_NEAR = 32  # Characters before the end in which an error may be due to the cut.


class TextWindow:
  """A part of the text of a UTF-8 file.

  `text` grows by `extend` and loses its beginning by `drop_before`. `line` (from 1), `column` (from
  0), `characters` and `bytes` are the position of its first character in the file. Invalid bytes
  become lone surrogates.
  """

  def __init__(self, file: BinaryIO, name: str, size: int = 0):
    self.text = ""
    self.line = 1
    self.column = 0
    self.characters = 0
    self.bytes = size  # Bytes before the text, such as a byte order mark.
    self.complete = False  # Whether the text reaches the end of the file.
    self._file = file
    self._name = name
    self._block = BLOCK
    self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")

  def extend(self) -> bool:
    """Reads more text; False at the end of the file.

    At least as much as there is already. Raises ManifestError for a record over LONGEST.
    """
    if self.complete:
      return False
    if len(self.text) > LONGEST:
      raise ManifestError(
        f"The manifest {one_line(self._name)} has a record of more than {LONGEST >> 20} MB near "
        f"line {self.line}. Records are the elements of one array, or stand on a line each."
      )
    wanted = max(self._block, len(self.text))
    try:
      data = self._file.read(wanted)
    except OSError as error:
      raise ManifestError(
        f"The manifest {one_line(self._name)} cannot be read: {error.strerror}."
      ) from error
    self.complete = len(data) < wanted
    self.text += self._decoder.decode(data, final=self.complete)
    return True

  def drop_before(self, place: int) -> int:
    """Drops the text before `place` if it is long.

    Returns the new place.
    """
    if place < self._block:
      return place
    before = self.text[:place]
    newline = before.rfind("\n")
    self.column = place - newline - 1 if newline >= 0 else self.column + place
    self.line += before.count("\n")
    self.characters += place
    self.bytes += byte_length(before)
    self.text = self.text[place:]
    return 0

  def message(self, error: Exception, begin: int = 0, line: int | None = None) -> str:
    """The message of a decoder's error, with its position in the file.

    begin: where the decoded text begins, by default with the window. line: the line of this place.
    """
    if not isinstance(error, json.JSONDecodeError):
      return str(error)
    column = error.colno
    if error.lineno == 1:
      newline = self.text.rfind("\n", 0, begin)
      column += begin - newline - 1 if newline >= 0 else self.column + begin
    error_line = (line or self.line) + error.lineno - 1
    character = self.characters + begin + error.pos
    return f"{error.msg}: line {error_line} column {column} (char {character})"


def may_be_cut(error: Exception, length: int) -> bool:
  """Whether a decoder's error may come from the end of its text.

  length: that of the text.
  """
  if not isinstance(error, json.JSONDecodeError):
    return False
  return error.msg.startswith("Unterminated string") or error.pos > length - _NEAR


def byte_length(text: str) -> int:
  """The bytes of a text in its file."""
  if text.isascii():
    return len(text)
  return len(text.encode("utf-8", "surrogateescape"))
