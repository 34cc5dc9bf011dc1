# SPDX-License-Identifier: Apache-2.0
"""Records of a Parquet file.

A row is a record, a column one of its keys.

Columns of bytes, and of structs {bytes, path} (Hugging Face's Image and Video), are media: a cell
with bytes becomes the name "x.parquet#row/column", one without its path. Bytes are not read here.
"""

from collections.abc import Iterator, Mapping
import os
from typing import Any, BinaryIO
import weakref

import pyarrow as pa

from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.json_text import LocatedRecord
from data_pipelines.manifest.report import ManifestError, RecordError
from data_pipelines.media.parquet_cells import ParquetError, ParquetRows

_CHUNK = 512  # Rows that become Python objects at a time.

_open_rows: "weakref.WeakKeyDictionary[BinaryIO, ParquetRecords]" = weakref.WeakKeyDictionary()


class ParquetRecords:
  """The records of an open Parquet file by row."""

  def __init__(self, path: str, file: BinaryIO):
    self.rows = ParquetRows(file)
    self._name = path if "://" in path else os.path.abspath(path)
    self._media: list[str] = []  # Columns with bytes.
    for field in self.rows.schema:
      if self.rows.leaves_of(field.name) and _is_medium(field.type):
        self._media.append(field.name)
    self._present: dict[tuple[int, str], bool | None] = {}  # See _all_or_none.

  def records(self, group: int, begin: int, end: int) -> Iterator[dict[str, Any]]:
    """The records of some rows of a row group."""
    if self.rows.leaves:
      table = self.rows.read_group(group, self.rows.leaves).slice(begin, end - begin)
      listed = table.to_pylist()
    else:
      listed = [{} for _ in range(begin, end)]
    for offset, values in enumerate(listed, begin):
      record = {}
      for key, value in values.items():
        record[key] = _without_nulls(value)
      for column in self._media:
        record[column] = self._named(group, offset, column, values.get(column))
      yield record

  def _named(self, group: int, offset: int, column: str, value: Any) -> Any:
    """The names of the media of a cell.

    `value` is what is left of it without bytes.
    """
    row = int(self.rows.first_rows[group]) + offset
    cell = f"{self._name}#{row}/{column}"
    if not _is_list(self._type(column)):
      return cell if self._has_bytes(group, offset, column) is True else _path(value)
    present = self._has_bytes(group, offset, column)
    entries = value if isinstance(value, list) else []
    if isinstance(present, bool):
      present = [present] * len(entries)
    names: list[str | None] = []
    for number, is_inside in enumerate(present):
      if is_inside:
        names.append(f"{cell}/{number}")
      else:
        names.append(_path(entries[number]) if entries else None)
    return names

  def _type(self, column: str) -> pa.DataType:
    return self.rows.schema.field(column).type

  def _has_bytes(self, group: int, offset: int, column: str) -> bool | list[bool]:
    """Whether a cell has bytes.

    For a cell with a list, of each entry.
    The counts in the file are asked first, so that the bytes need not be read.
    """
    if (group, column) not in self._present:
      self._present[group, column] = self._all_or_none(group, column)
    present = self._present[group, column]
    if present is not None:
      return present
    leaf = self.rows.leaves_of(column)[0]
    value = self.rows.read_group(group, [leaf]).column(0)[offset]
    if not _is_list(self._type(column)):
      return _is_filled(value)
    return [_is_filled(entry) for entry in value.values] if value.is_valid else []

  def _all_or_none(self, group: int, column: str) -> bool | None:
    """Whether all cells of a row group have bytes, or none has.

    None if bytes must be looked at.
    The lengths of lists are known if the lists have another leaf, such as paths.
    """
    if _is_list(self._type(column)):
      if not any(leaf.startswith(column + ".") for leaf in self.rows.leaves):
        return None
    nulls, values = self.rows.nulls(group, self.rows.leaves_of(column)[0])
    if nulls not in (0, values):
      return None
    return nulls == 0


def _is_filled(value: Any) -> bool:
  """Whether a binary value, or that of a struct, is there."""
  if value.is_valid and isinstance(value, pa.StructScalar):
    value = value["bytes"]
  return bool(value.is_valid)


def _is_list(kind: pa.DataType) -> bool:
  return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_medium(kind: pa.DataType) -> bool:
  """Whether a column holds bytes, structs with bytes, or lists of them."""
  if _is_list(kind):
    kind = kind.value_type
  if pa.types.is_struct(kind):
    return kind.get_field_index("bytes") >= 0
  return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _path(value: Any) -> Any:
  """The path of a cell without bytes, or None."""
  return value.get("path") if isinstance(value, Mapping) else value


def _without_nulls(value: Any) -> Any:
  """A value without the empty fields that structs have in common."""
  if isinstance(value, dict):
    fields = {}
    for key, entry in value.items():
      if entry is not None:
        fields[key] = _without_nulls(entry)
    return fields
  if isinstance(value, list):
    return [_without_nulls(entry) for entry in value]
  return value


def parquet_records(path: str, file: BinaryIO) -> Iterator[LocatedRecord]:
  """The records of a Parquet file.

  A place is a row, from 0.
  The rows of a damaged row group are RecordErrors. Raises ManifestError for a damaged file.
  """
  records = _opened_records(path, file)
  first_rows = records.rows.first_rows.tolist()
  for group, first in enumerate(first_rows[:-1]):
    count = first_rows[group + 1] - first
    for begin in range(0, count, _CHUNK):
      end = min(begin + _CHUNK, count)
      for number, record in enumerate(_chunk(records, group, begin, end), first + begin):
        yield LocatedRecord(number + 1, record, number, number + 1)


def _chunk(records: ParquetRecords, group: int, begin: int, end: int) -> list[Any]:
  """Some records of a row group, or a RecordError for each."""
  try:
    return list(records.records(group, begin, end))
  except ParquetError as error:
    return [RecordError(str(error))] * (end - begin)


def parquet_places(path: str, file: BinaryIO) -> Iterator[LocatedRecord]:
  """The places of a Parquet file's records.

  The records are not read: they are None.
  Raises ManifestError for a damaged file.
  """
  count = len(_opened_records(path, file).rows)
  for row in range(count):
    yield LocatedRecord(row + 1, None, row, row + 1)


def parquet_record_at(path: str, file: BinaryIO, row: int) -> dict[str, Any]:
  """The record of a row, from 0. Raises ValueError."""
  records = _records(path, file)
  group, offset = records.rows.locate(row)
  return next(records.records(group, offset, offset + 1))


def _opened_records(path: str, file: BinaryIO) -> ParquetRecords:
  try:
    return _records(path, file)
  except ParquetError as error:
    raise ManifestError(f"The manifest {one_line(path)} {error}.") from error


def _records(path: str, file: BinaryIO) -> ParquetRecords:
  if file not in _open_rows:
    _open_rows[file] = ParquetRecords(path, file)
  return _open_rows[file]
