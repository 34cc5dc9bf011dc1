# SPDX-License-Identifier: Apache-2.0
"""Records of a .csv or .tsv file.

A row is a record; the first row names the keys. Cells are texts, but those under the keys of times
and rates are numbers. Empty cells are left out.
"""

import codecs
from collections.abc import Iterator, Sequence
import csv
import io
import os
import threading
from typing import Any, BinaryIO
import weakref

from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.folder_rates import KEYS as RATES
from data_pipelines.manifest.json_text import LocatedRecord
from data_pipelines.manifest.report import ManifestError, RecordError
from data_pipelines.manifest.table_text import TableLines, first_row, located_rows

DELIMITERS = {".csv": ",", ".tsv": "\t"}
_NUMBERS = frozenset(("start", "end", "duration", *RATES))

_lock = threading.Lock()
_headers: "weakref.WeakKeyDictionary[BinaryIO, list[str]]" = weakref.WeakKeyDictionary()


def is_table(path: str) -> bool:
  """Whether a manifest is a table."""
  return os.path.splitext(path)[1].lower() in DELIMITERS


def table_records(path: str, file: BinaryIO) -> Iterator[LocatedRecord]:
  """The records of a table, from the place of `file` on.

  Raises ManifestError for a first row that names no keys.
  """
  lines = TableLines(file)
  try:
    keys = first_row(lines, _delimiter(path))
  except csv.Error as error:
    raise ManifestError(
      f"The manifest {one_line(path)} has no readable first row: {error}."
    ) from error
  if not any(keys):
    raise ManifestError(f"The manifest {one_line(path)} has no first row that names its columns.")
  filled = [key for key in keys if key]
  if len(set(filled)) < len(filled):
    raise ManifestError(f"The manifest {one_line(path)} has two columns of the same name.")
  for row in located_rows(lines, keys, _delimiter(path)):
    yield LocatedRecord(row.line, _record(keys, row.cells), row.start, row.stop)


def table_record_at(path: str, file: BinaryIO, start: int, stop: int) -> Any:
  """The record of a row at its bytes. Raises ValueError."""
  with _lock:  # The place of a file is one for all threads.
    if file not in _headers:
      file.seek(0)
      marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
      file.seek(len(codecs.BOM_UTF8) if marked else 0)
      _headers[file] = first_row(TableLines(file), _delimiter(path))
    keys = _headers[file]
  text = TableLines(io.BytesIO(os.pread(file.fileno(), stop - start, start)))
  for row in located_rows(text, keys, _delimiter(path)):
    record = _record(keys, row.cells)
    if isinstance(record, RecordError):
      raise record
    return record
  raise RecordError("is a blank row")


def _delimiter(path: str) -> str:
  return DELIMITERS[os.path.splitext(path)[1].lower()]


def _record(keys: Sequence[str], cells: list[str] | RecordError) -> Any:
  """The record of a row, or the RecordError in its place."""
  if isinstance(cells, RecordError):
    return cells
  record: dict[str, Any] = {}
  for key, cell in zip(keys, cells, strict=True):
    if key and cell.strip():
      record[key] = _number(cell) if key in _NUMBERS else cell
  return record


def _number(cell: str) -> float | str:
  """The number in a cell; the cell itself if it is none."""
  try:
    return float(cell)
  except ValueError:
    return cell
