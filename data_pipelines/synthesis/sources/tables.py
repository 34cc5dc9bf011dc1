# SPDX-License-Identifier: Apache-2.0
"""Rows of csv and tsv files with their lines, Python literals in cells, and clock times."""

import ast
import codecs
from collections import deque
from collections.abc import Iterator, Sequence
import csv
import json
import os
import re
from typing import Any, BinaryIO, NamedTuple
import warnings

from data_pipelines.manifest.excerpts import excerpt, one_line
from data_pipelines.manifest.reader import COMPRESSED
from data_pipelines.manifest.report import ManifestError, RecordError
from data_pipelines.synthesis.sources.track_report import TrackReport

LONGEST_CELL = 4 << 20  # Characters; Python's default of 131,072 is too few for lists of captions.
LONGEST_LITERAL = 1 << 20  # Characters; parsing takes about a hundred times as many bytes.
LONGEST_LINE = 16 << 20  # Bytes.
_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2}(?:\.\d{1,9})?)", re.ASCII)


class TableRow(NamedTuple):
  """A row, or the RecordError in its place."""

  line: int  # Its first line, from 1.
  cells: dict[str, str] | RecordError


def table_rows(
  path: str, columns: Sequence[str], report: TrackReport, delimiter: str = ","
) -> Iterator[TableRow]:
  """The rows of a table whose first row names its columns.

  columns: those it must have. A line that is not UTF-8 is read as cp1252, which is counted in
  `report.repairs`. Quotes that are never closed spoil their own line only. Raises ManifestError for
  a file without these columns.
  """
  if csv.field_size_limit() < LONGEST_CELL:
    csv.field_size_limit(LONGEST_CELL)
  try:
    with open(path, "rb") as file:
      lines = _Lines(file, path, report)
      header = _header(lines, path, columns, delimiter)
      yield from _rows(lines, header, delimiter)
  except (OSError, ValueError) as error:
    if isinstance(error, ManifestError | RecordError):
      raise
    raise ManifestError(f"The table {one_line(path)} cannot be read: {error}.") from error


def literal(cell: str) -> Any:
  """The Python literal in a cell, such as "['a', \\"b's\\"]".

  Nothing is executed. Raises RecordError.
  """
  if len(cell) > LONGEST_LITERAL:
    raise RecordError(f"has a list of {len(cell)} characters; at most {LONGEST_LITERAL} are read")
  try:
    if "\\" not in cell:
      return ast.literal_eval(cell)
    with warnings.catch_warnings():  # Of "\d" and the like.
      warnings.simplefilter("ignore")
      return ast.literal_eval(cell)
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
    raise RecordError(f"has {excerpt(cell)}, which is not a list in Python's form") from None


def literal_list(cell: str, name: str) -> list:
  """The list in a cell. Raises RecordError."""
  value = literal(cell)
  if not isinstance(value, list):
    raise RecordError(f"has {excerpt(cell)} in {name}, which is not a list")
  return value


def check_unicode(value: Any) -> None:
  """Raises RecordError for a text with half a character.

  JSON and Python can write one ("\\ud800"), UTF-8 cannot.
  """
  try:
    json.dumps(value, ensure_ascii=False).encode()
  except (ValueError, TypeError, RecursionError):
    raise RecordError("has a text that is not UTF-8, or an endless value") from None


def clock_seconds(text: Any) -> float:
  """The seconds of H:MM:SS, HH:MM:SS.fff or MM:SS. Raises RecordError."""
  match = _CLOCK.fullmatch(text.strip()) if isinstance(text, str) else None
  if match is None:
    shown = text if isinstance(text, str | int | float) else type(text).__name__
    raise RecordError(f"has the time {excerpt(shown)}, which is not H:MM:SS")
  minutes = int(match[2])
  seconds = float(match[3])
  if minutes >= 60 or seconds >= 60:
    raise RecordError(f"has the time {excerpt(text)}, which is not a time of a clock")
  return round(int(match[1] or 0) * 3600 + minutes * 60 + seconds, 6)


class _Lines:
  """The lines of a table as text, which can be given back."""

  def __init__(self, file: BinaryIO, path: str, report: TrackReport):
    self.line = 0  # Of the last line taken.
    self.taken: list[str] = []  # Since the row began.
    self._waiting: deque[str] = deque()
    self._file = file
    self._path = path
    self._report = report
    head = file.read(16)
    for magic, kind in COMPRESSED.items():
      if head.startswith(magic):
        raise ManifestError(f"The table {one_line(path)} is a {kind} file. Unpack it.")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
      raise ManifestError(f"The table {one_line(path)} is text in UTF-16. Save it as UTF-8.")
    file.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)

  def __iter__(self) -> "_Lines":
    return self

  def __next__(self) -> str:
    text = self._waiting.popleft() if self._waiting else self._read()
    if not text:
      raise StopIteration
    self.line += 1
    self.taken.append(text)
    return text

  def return_all_but_first(self) -> None:
    """Gives back the lines of a row after its first."""
    rest = self.taken[1:]
    self._waiting.extendleft(reversed(rest))
    self.line -= len(rest)

  def _read(self) -> str:
    data = self._file.readline(LONGEST_LINE)
    if len(data) == LONGEST_LINE and not data.endswith(b"\n"):
      self._skip_line()
      return " " * (LONGEST_CELL + 1) + "\n"  # Too long for a cell: the row becomes an error.
    try:
      return data.decode()
    except UnicodeDecodeError:
      name = one_line(os.path.basename(self._path))
      self._report.repairs[f"{name}: a line that is not UTF-8 was read as cp1252"] += 1
      return data.decode("cp1252", errors="replace")

  def _skip_line(self) -> None:
    """Reads on to the end of an overlong line."""
    while True:
      data = self._file.readline(LONGEST_LINE)
      if len(data) < LONGEST_LINE or data.endswith(b"\n"):
        return


def _header(lines: _Lines, path: str, columns: Sequence[str], delimiter: str) -> list[str]:
  """The names of the columns. Raises ManifestError."""
  try:
    cells = next(csv.reader(lines, delimiter=delimiter, strict=True), [])
  except csv.Error as error:
    raise ManifestError(f"The table {one_line(path)} has no readable first row: {error}.") from None
  header = [cell.strip() for cell in cells]
  missing = [name for name in columns if name not in header]
  if missing:
    raise ManifestError(
      f"The table {one_line(path)} has no column {', '.join(missing)}. Its columns are "
      f"{excerpt(header, 200)}."
    )
  return header


def _rows(lines: _Lines, header: list[str], delimiter: str) -> Iterator[TableRow]:
  reader = csv.reader(lines, delimiter=delimiter, strict=True)
  while True:
    lines.taken.clear()
    line = lines.line + 1
    try:
      cells = next(reader)
      reason = _row_error(cells, header)
    except StopIteration:
      return
    except csv.Error as error:
      reason = f"is not a row of a table: {error}"
    if not reason:
      yield TableRow(line, dict(zip(header, cells, strict=True)))
      continue
    if len(lines.taken) > 1:
      reason = f"{reason}; a quote may be open"
      lines.return_all_but_first()
      reader = csv.reader(lines, delimiter=delimiter, strict=True)
    yield TableRow(line, RecordError(reason))


def _row_error(cells: list[str], header: list[str]) -> str:
  if not any(cells):
    return "is a blank row"
  if len(cells) != len(header):
    return f"has {len(cells)} cells; the first row has {len(header)}"
  return ""
