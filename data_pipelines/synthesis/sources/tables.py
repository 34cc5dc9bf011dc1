# SPDX-License-Identifier: Apache-2.0
"""Rows of csv and tsv files with their lines."""

import codecs
from collections.abc import Iterator, Sequence
import csv
import json
import os
from typing import Any, BinaryIO, NamedTuple

from data_pipelines.manifest.excerpts import excerpt, one_line
from data_pipelines.manifest.reader import COMPRESSED
from data_pipelines.manifest.report import ManifestError, RecordError
from data_pipelines.manifest.table_text import TableLines, first_row, located_rows
from data_pipelines.synthesis.sources.track_report import TrackReport


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
  name = one_line(os.path.basename(path))

  def note_repair() -> None:
    report.repairs[f"{name}: a line that is not UTF-8 was read as cp1252"] += 1

  try:
    with open(path, "rb") as file:
      _skip_mark(file, path)
      lines = TableLines(file, note_repair)
      header = _header(lines, path, columns, delimiter)
      for row in located_rows(lines, header, delimiter):
        cells: dict[str, str] | RecordError
        if isinstance(row.cells, RecordError):
          cells = row.cells
        else:
          cells = dict(zip(header, row.cells, strict=True))
        yield TableRow(row.line, cells)
  except (OSError, ValueError) as error:
    if isinstance(error, ManifestError | RecordError):
      raise
    raise ManifestError(f"The table {one_line(path)} cannot be read: {error}.") from error


def check_unicode(value: Any) -> None:
  """Raises RecordError for a text with half a character.

  JSON and Python can write one ("\\ud800"), UTF-8 cannot.
  """
  try:
    json.dumps(value, ensure_ascii=False).encode()
  except (ValueError, TypeError, RecursionError):
    raise RecordError("has a text that is not UTF-8, or an endless value") from None


def _skip_mark(file: BinaryIO, path: str) -> None:
  """Skips the mark of UTF-8. Raises ManifestError for another file."""
  head = file.read(16)
  for magic, kind in COMPRESSED.items():
    if head.startswith(magic):
      raise ManifestError(f"The table {one_line(path)} is a {kind} file. Unpack it.")
  if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    raise ManifestError(f"The table {one_line(path)} is text in UTF-16. Save it as UTF-8.")
  file.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)


def _header(lines: TableLines, path: str, columns: Sequence[str], delimiter: str) -> list[str]:
  """The names of the columns. Raises ManifestError."""
  try:
    header = first_row(lines, delimiter)
  except csv.Error as error:
    raise ManifestError(f"The table {one_line(path)} has no readable first row: {error}.") from None
  missing = [name for name in columns if name not in header]
  if missing:
    raise ManifestError(
      f"The table {one_line(path)} has no column {', '.join(missing)}. Its columns are "
      f"{excerpt(header, 200)}."
    )
  return header
