# SPDX-License-Identifier: Apache-2.0
"""The records of a manifest in blocks, so that several processes may parse them.

Blocks of JSON lines are passed on as unparsed text. Records of other manifests are parsed by the
process that reads the file. In both cases `block_records` yields the records of `manifest_records`.
"""

from collections.abc import Generator, Iterator
import io
import itertools
import os
from typing import Any, BinaryIO, NamedTuple

from data_pipelines.manifest import json_text, reader, text_window
from data_pipelines.manifest.keyed_records import is_keyed
from data_pipelines.manifest.text_window import TextWindow

BLOCK = 256 << 10  # Bytes of text.
RECORDS = 64  # The number of records in a parsed block.
_BLANKS = b" \t\r\n"


class TextPlace(NamedTuple):
  """A place in a text file."""

  byte: int
  character: int
  line: int  # From 1.

  def after(self, text: bytes) -> "TextPlace":
    """The place after a text that begins here."""
    characters = len(text)
    if not text.isascii():
      characters = len(text.decode("utf-8", "surrogateescape"))
    return TextPlace(
      self.byte + len(text), self.character + characters, self.line + text.count(b"\n")
    )


class RecordBlock(NamedTuple):
  """Records that follow each other in a manifest: as text, or parsed."""

  path: str
  place: TextPlace
  text: bytes = b""  # Whole lines, each a record or damaged in itself.
  records: tuple[tuple[int, Any], ...] = ()  # (line, record or RecordError).


def record_blocks(manifest: str | os.PathLike) -> Iterator[RecordBlock]:
  """The blocks of a manifest in order. Raises ManifestError."""
  path = os.fspath(manifest)
  start = TextPlace(0, 0, 1)
  if not reader.is_json_text(path):
    yield from _parsed_blocks(path, start, reader.manifest_records(path))
    return
  with reader.opened_manifest(path) as file:
    mark = reader.skip_mark(path, file)
    beginning = file.read(text_window.BLOCK)
    begins_with_record = beginning[:1] == b"{"
    if begins_with_record and not is_keyed(beginning.decode("utf-8", "surrogateescape")):
      yield from _line_blocks(path, file, TextPlace(mark, 0, 1))
      return
  yield from _parsed_blocks(path, start, reader.manifest_records(path))


def block_records(block: RecordBlock) -> Iterator[tuple[int, Any]]:
  """(line, record) of a block; a RecordError for a damaged record."""
  yield from block.records
  if block.text:
    window = _window(io.BytesIO(block.text), block.path, block.place)
    for located in json_text.line_records(window):
      yield located.line, located.record


def _parsed_blocks(
  path: str, place: TextPlace, records: Iterator[tuple[int, Any]]
) -> Iterator[RecordBlock]:
  while batch := tuple(itertools.islice(records, RECORDS)):
    yield RecordBlock(path, place, records=batch)


def _line_blocks(path: str, file: BinaryIO, place: TextPlace) -> Iterator[RecordBlock]:
  """The blocks of a file of JSON lines.

  place: where its first record begins.
  """
  while True:
    file.seek(place.byte)
    text, is_followed_by_record = _whole_lines(file)
    if not text:
      return
    following = place.after(text)
    if is_followed_by_record and _has_a_record_a_line(text):
      yield RecordBlock(path, place, text)
      place = following
      continue
    start = yield from _blocks_of_longer_records(path, file, place, following.byte)
    if start is None:
      return
    file.seek(place.byte)
    place = place.after(file.read(start - place.byte))


def _blocks_of_longer_records(
  path: str, file: BinaryIO, place: TextPlace, stop: int
) -> Generator[RecordBlock, None, int | None]:
  """Yields parsed blocks where a record may span several lines.

  Reading starts at `place`. The blocks end before the first record that begins a line at the byte
  `stop` or later. Returns the byte where that record begins, or None at the end of the file.
  """
  file.seek(place.byte)
  records: list[tuple[int, Any]] = []
  start = None
  for located in json_text.line_records(_window(file, path, place)):
    if located.start >= stop and _begins_line(file, located.start):
      start = located.start
      break
    records.append((located.line, located.record))
    if len(records) == RECORDS:
      yield RecordBlock(path, place, records=tuple(records))
      records = []
  if records:
    yield RecordBlock(path, place, records=tuple(records))
  return start


def _whole_lines(file: BinaryIO) -> tuple[bytes, bool]:
  """(lines, whether a record or nothing follows them).

  At the end of the file, the lines are b"".
  """
  text = file.read(BLOCK)
  if len(text) == BLOCK and not text.endswith(b"\n"):
    text += file.readline()
  return text, file.read(1) in (b"", b"{")


def _has_a_record_a_line(text: bytes) -> bool:
  """Whether every line begins with { and ends with }.

  Such a line is a record, or a damaged record that ends with the line: JSON never has a { directly
  after a }, and no line break inside a string.
  """
  lines = text.rstrip(_BLANKS)
  borders = lines.count(b"}\n{") + lines.count(b"}\r\n{")
  return lines.startswith(b"{") and lines.endswith(b"}") and lines.count(b"\n") == borders


def _begins_line(file: BinaryIO, byte: int) -> bool:
  return os.pread(file.fileno(), 1, byte - 1) == b"\n"


def _window(file: BinaryIO, path: str, place: TextPlace) -> TextWindow:
  """A window on the text of a file, from a place on."""
  window = TextWindow(file, path, place.byte)
  window.line = place.line
  window.characters = place.character
  return window
