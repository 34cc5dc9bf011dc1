# SPDX-License-Identifier: Apache-2.0
"""Rows of csv and tsv text, with their lines and bytes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
import csv
from typing import BinaryIO, NamedTuple

from data_pipelines.manifest.report import RecordError

LONGEST_CELL = 4 << 20  # Characters; Python's default of 131,072 is too few for lists of captions.
LONGEST_LINE = 16 << 20  # Bytes.


class LocatedRow(NamedTuple):
  """A row, or the RecordError in its place, and where it stands."""

  line: int  # Its first line, from 1.
  cells: list[str] | RecordError
  start: int  # Bytes in the file.
  stop: int


class TableLines:
  """The lines of a table as text, which can be given back.

  A line that is not UTF-8 is read as cp1252, which is told to `note_repair`.
  """

  def __init__(self, file: BinaryIO, note_repair: Callable[[], None] | None = None):
    self.line = 0  # Of the last line taken.
    self.bytes = file.tell()  # After it.
    self.taken: list[tuple[str, int]] = []  # Since the row began: texts, and their bytes.
    self._waiting: deque[tuple[str, int]] = deque()
    self._file = file
    self._note_repair = note_repair

  def __iter__(self) -> "TableLines":
    return self

  def __next__(self) -> str:
    text, size = self._waiting.popleft() if self._waiting else self._read()
    if not text:
      raise StopIteration
    self.line += 1
    self.bytes += size
    self.taken.append((text, size))
    return text

  def return_all_but_first(self) -> None:
    """Gives back the lines of a row after its first."""
    rest = self.taken[1:]
    self._waiting.extendleft(reversed(rest))
    self.line -= len(rest)
    self.bytes -= sum(size for _, size in rest)

  def _read(self) -> tuple[str, int]:
    """(a line, its bytes)."""
    data = self._file.readline(LONGEST_LINE)
    if len(data) == LONGEST_LINE and not data.endswith(b"\n"):
      size = len(data) + self._skip_line()
      # Too long for a cell: the row becomes an error.
      return " " * (LONGEST_CELL + 1) + "\n", size
    try:
      return data.decode(), len(data)
    except UnicodeDecodeError:
      if self._note_repair is not None:
        self._note_repair()
      return data.decode("cp1252", errors="replace"), len(data)

  def _skip_line(self) -> int:
    """Reads on to the end of an overlong line; returns the bytes."""
    size = 0
    while True:
      data = self._file.readline(LONGEST_LINE)
      size += len(data)
      if len(data) < LONGEST_LINE or data.endswith(b"\n"):
        return size


def first_row(lines: TableLines, delimiter: str) -> list[str]:
  """The cells of the first row, without blanks around them. Raises csv.Error."""
  _allow_long_cells()
  cells = next(csv.reader(lines, delimiter=delimiter, strict=True), [])
  return [cell.strip() for cell in cells]


def located_rows(lines: TableLines, header: Sequence[str], delimiter: str) -> Iterator[LocatedRow]:
  """The rows that follow.

  Quotes that are never closed spoil their own line only.
  """
  _allow_long_cells()
  reader = csv.reader(lines, delimiter=delimiter, strict=True)
  while True:
    lines.taken.clear()
    line = lines.line + 1
    start = lines.bytes
    cells: list[str] = []
    try:
      cells = next(reader)
      reason = _row_error(cells, header)
    except StopIteration:
      return
    except csv.Error as error:
      reason = f"is not a row of a table: {error}"
    if not reason:
      yield LocatedRow(line, cells, start, lines.bytes)
      continue
    if len(lines.taken) > 1:
      reason = f"{reason}; a quote may be open"
      lines.return_all_but_first()
      reader = csv.reader(lines, delimiter=delimiter, strict=True)
    yield LocatedRow(line, RecordError(reason), start, lines.bytes)


def _row_error(cells: Sequence[str], header: Sequence[str]) -> str:
  if not any(cells):
    return "is a blank row"
  if len(cells) != len(header):
    return f"has {len(cells)} cells; the first row has {len(header)}"
  return ""


def _allow_long_cells() -> None:
  if csv.field_size_limit() < LONGEST_CELL:
    csv.field_size_limit(LONGEST_CELL)
