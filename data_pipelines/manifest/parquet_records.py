# SPDX-License-Identifier: Apache-2.0
"""Records of a Parquet file.

A row is a record, a column one of its keys.

Columns of bytes, and of structs {bytes, path} (Hugging Face's Image and Video), are media: a cell
with bytes becomes the name "x.parquet#row/column", and a cell without bytes becomes its path. Bytes
are not read here.
"""

from collections.abc import Iterator, Mapping
import contextlib
import functools
import io
import os
import threading
from typing import Any, BinaryIO
import weakref

import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.json_text import LocatedRecord
from data_pipelines.manifest.media_keys import MEDIA, PLURALS, TEXTS
from data_pipelines.manifest.report import ManifestError, RecordError
from data_pipelines.media.file_part import FilePart
from data_pipelines.media.kept_tables import LARGEST_HELD, Batches, KeptTables
from data_pipelines.media.parquet_cells import ParquetError, ParquetRows

_CHUNK = 512  # Rows that become Python objects at a time.
_GROUPS = 4096  # Row groups kept, of all files together.
_MEMORY = 128 << 20  # Bytes of those in memory.
_DISK = 4 << 30  # Bytes of those in mapped files.

_kept = KeptTables(_GROUPS, _MEMORY, _DISK)
_open_rows: "weakref.WeakKeyDictionary[BinaryIO, ParquetRecords]" = weakref.WeakKeyDictionary()


class ParquetRecords:
  """The records of an open Parquet file by row.

  Its row groups are held by `kept`.
  """

  def __init__(self, path: str, file: BinaryIO, kept: KeptTables):
    facts = os.fstat(file.fileno())
    version = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    # A proxy, so that the entry of _open_rows goes with its file.
    content = FilePart(weakref.proxy(file), 0, facts.st_size)
    self.rows = ParquetRows(io.BufferedReader(content), kept, version)
    self._name = path if "://" in path else os.path.abspath(path)
    self._media: list[str] = []  # Columns with bytes.
    self._texts: list[str] = []  # Columns of texts, or names, that may hold bytes.
    self._nested: list[str] = []  # Columns with bytes in places that are not read.
    for field in self.rows.schema:
      if not self.rows.leaves_of(field.name):
        continue
      if field.name in TEXTS:
        self._texts.append(field.name)
      elif _is_medium(field.type):
        self._media.append(field.name)
      elif field.name in (*MEDIA, *PLURALS.values()):
        self._texts.append(field.name)
      else:
        self._nested.append(field.name)
    self._lost: dict[int, str] = {}  # Row group -> a column of texts with bytes, or "".
    self._holding: dict[tuple[int, str], bool] = {}  # Whether a row group has bytes in a column.
    self._decided: dict[tuple[int, str], bool | None] = {}  # See _all_or_none.
    self._lock = threading.Lock()
    self._following: list[Any] = []  # Records after the last one asked for, in reverse.
    self._next = -1  # The row of the first of them.

  def records(self, group: int, begin: int, end: int) -> Iterator[dict[str, Any]]:
    """The records of some rows of a row group.

    Raises ParquetError if bytes stand in place of texts, or among the turns.
    """
    lost = self._lost_column(group)
    if lost:
      raise ParquetError(
        f"has bytes in {lost}, where they are not read; write texts as strings, and media as a "
        "column of their own, such as images"
      )
    nested = [column for column in self._nested if self._holds_bytes(group, column)]
    mixed = [column for column in self._media if self._whether_bytes(group, column) is None]
    listed: list[dict[str, Any]] = [{} for _ in range(begin, end)]
    present: dict[str, list[Any]] = {}
    if self.rows.leaves or mixed:
      read = functools.partial(self._batches, group, mixed)
      table = self.rows.kept_table((group, "records"), read).slice(begin, end - begin)
      columns = table.num_columns - len(mixed)
      if columns:
        listed = table.select(range(columns)).to_pylist()
      for column, flags in zip(mixed, table.columns[columns:], strict=True):
        present[column] = flags.to_pylist()
    for number, values in enumerate(listed):
      record = {}
      for key, value in values.items():
        record[key] = _without_nulls(value)
      row = int(self.rows.first_rows[group]) + begin + number
      for column in self._media:
        has_bytes: Any = self._decided[group, column]
        if column in present:
          has_bytes = present[column][number]
        record[column] = self._named(row, column, values.get(column), has_bytes)
      for column in nested:  # Named, so that a record without other media is bad.
        record[column] = f"{self._name}#{row}/{column}"
      yield record

  def record(self, row: int) -> dict[str, Any]:
    """The record of a row.

    Records in order become Python objects many at a time. Raises ValueError.
    """
    group, offset = self.rows.locate(row)
    with self._lock:
      follows = row == self._next
      if not follows or not self._following:
        count = int(self.rows.first_rows[group + 1]) - row
        end = offset + min(count, _CHUNK if follows else 1)
        self._following = _chunk(self, group, offset, end)[::-1]
      record = self._following.pop()
      self._next = row + 1
    if isinstance(record, RecordError):
      raise record
    return record

  def _batches(self, group: int, mixed: list[str]) -> Batches:
    """The columns without bytes, then the flags of those in `mixed`."""
    flags = [self._flags(group, column) for column in mixed]
    if not self.rows.leaves:
      table = pa.Table.from_arrays(flags, mixed)
      yield from table.to_batches()
      return
    first = 0
    for batch in self.rows.read_batches(group, self.rows.leaves):
      columns = list(batch.columns)
      for flag in flags:
        columns.append(pa.concat_arrays(flag.slice(first, batch.num_rows).chunks))
      yield pa.RecordBatch.from_arrays(columns, [*batch.schema.names, *mixed])
      first += batch.num_rows

  def _flags(self, group: int, column: str) -> pa.ChunkedArray:
    """Whether there are bytes in each cell of a column.

    The bytes are read and not kept.
    """
    flags = []
    for batch in self.rows.read_batches(group, self.rows.leaves_of(column)[:1]):
      flags.append(_filled(batch.column(0)))
    return pa.chunked_array(flags)

  def _named(self, row: int, column: str, value: Any, present: Any) -> Any:
    """The names of the media of a cell.

    `value` is what is left of it without bytes.
    """
    cell = f"{self._name}#{row}/{column}"
    if not _is_list(self._type(column)):
      return cell if present is True else _path(value)
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

  def _lost_column(self, group: int) -> str:
    """A column of texts with bytes in a row group, or ""."""
    if group not in self._lost:
      columns = [column for column in self._texts if self._holds_bytes(group, column)]
      self._lost[group] = columns[0] if columns else ""
    return self._lost[group]

  def _holds_bytes(self, group: int, column: str) -> bool:
    """Whether a row group has bytes in a column, found once."""
    if (group, column) not in self._holding:
      self._holding[group, column] = self._looks_for_bytes(group, column)
    return self._holding[group, column]

  def _looks_for_bytes(self, group: int, column: str) -> bool:
    for leaf in self.rows.leaves_of(column):
      nulls, values = self.rows.nulls(group, leaf)
      if nulls is not None and nulls < values:
        return True
      if nulls is None and any(
        _has_value(b.column(0)) for b in self.rows.read_batches(group, [leaf])
      ):
        return True
    return False

  def _type(self, column: str) -> pa.DataType:
    return self.rows.schema.field(column).type

  def _whether_bytes(self, group: int, column: str) -> bool | None:
    """`_all_or_none`, found once."""
    if (group, column) not in self._decided:
      self._decided[group, column] = self._all_or_none(group, column)
    return self._decided[group, column]

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


def _filled(cells: pa.Array) -> pa.Array:
  """Whether there are bytes in each cell, or entry of its list."""
  if pa.types.is_list(cells.type):
    return pa.ListArray.from_arrays(cells.offsets, _filled(cells.values))
  if pa.types.is_large_list(cells.type):
    return pa.LargeListArray.from_arrays(cells.offsets, _filled(cells.values))
  if pa.types.is_struct(cells.type):
    cells = pc.struct_field(cells, "bytes")
  return cells.is_valid()


def _has_value(cells: pa.Array) -> bool:
  """Whether any cell has a value, also inside lists and structs."""
  if _is_list(cells.type):
    return _has_value(cells.flatten())
  if pa.types.is_struct(cells.type):
    return any(map(_has_value, cells.flatten()))
  return cells.null_count < len(cells)


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
  newest = KeptTables(1, LARGEST_HELD, _DISK)  # A pass returns to no row group.
  with _manifest_errors(path):
    records = ParquetRecords(path, file, newest)
  first_rows = records.rows.first_rows.tolist()
  for group, first in enumerate(first_rows[:-1]):
    count = first_rows[group + 1] - first
    for begin in range(0, count, _CHUNK):
      end = min(begin + _CHUNK, count)
      for number, record in enumerate(_chunk(records, group, begin, end), first + begin):
        yield LocatedRecord(number + 1, record, number, number + 1)


def _chunk(records: ParquetRecords, group: int, begin: int, end: int) -> list[Any]:
  """Some records of a row group.

  A RecordError stands for a damaged one, and for all of a damaged row group.
  """
  try:
    return list(records.records(group, begin, end))
  except ValueError as error:
    if isinstance(error, ParquetError) or end - begin == 1:
      return [RecordError(str(error)) for _ in range(begin, end)]
  listed = []  # A text may be no UTF-8.
  for offset in range(begin, end):
    listed += _chunk(records, group, offset, offset + 1)
  return listed


def parquet_places(path: str, file: BinaryIO) -> Iterator[LocatedRecord]:
  """The places of a Parquet file's records.

  The records are not read: they are None.
  Raises ManifestError for a damaged file.
  """
  with _manifest_errors(path):
    count = len(_records(path, file).rows)
  for row in range(count):
    yield LocatedRecord(row + 1, None, row, row + 1)


def parquet_record_at(path: str, file: BinaryIO, row: int) -> dict[str, Any]:
  """The record of a row, from 0. Raises ValueError."""
  return _records(path, file).record(row)


@contextlib.contextmanager
def _manifest_errors(path: str) -> Iterator[None]:
  try:
    yield
  except ParquetError as error:
    raise ManifestError(f"The manifest {one_line(path)} {error}.") from error


def _records(path: str, file: BinaryIO) -> ParquetRecords:
  if file not in _open_rows:
    _open_rows[file] = ParquetRecords(path, file, _kept)
  return _open_rows[file]
