# SPDX-License-Identifier: Apache-2.0
"""Rows and cells of a Parquet file.

"x.parquet#row/column" is the bytes of one cell.

A cell is a binary value, or the `bytes` of a struct {bytes, path}; "row/column/2" is one of a list.
Row groups are read when they are needed, large ones to a file that is mapped.
"""

from collections.abc import Callable, Hashable, Sequence
import contextlib
import functools
import os
import re
import threading
import time
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.media import remote
from data_pipelines.media.kept_tables import LARGEST_HELD, Batches, KeptTables

_NAME = re.compile(r"(.+?\.parquet)#([0-9]{1,18})/(.+?)(?:/([0-9]{1,9}))?", re.DOTALL)
_BATCH = 8 << 20  # Bytes of a batch, about.
_BUFFER = 1 << 20  # Bytes read at a time: without it, a whole column of a row group.
_LARGEST_GROUP = 64 << 30  # Bytes of the columns of one row group.
_GROUPS = 4  # Row groups kept of a file, for each column of bytes.
_SECONDS = 600.0  # To read the columns of one row group.

CellName = tuple[str, int, str, int | None]  # File, row, column, place in its list.


class ParquetError(ValueError):
  """A Parquet file is damaged, too large, or lacks a cell."""


def split_cell(media: str | os.PathLike) -> CellName | None:
  """Splits "x.parquet#row/column"; None for other media."""
  match = _NAME.fullmatch(os.fspath(media))
  if match is None:
    return None
  place = None if match[4] is None else int(match[4])
  return match[1], int(match[2]), match[3], place


@contextlib.contextmanager
def parquet_errors():
  """Converts Arrow's errors for bad content to ParquetError."""
  try:
    yield
  except ParquetError:
    raise
  except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
    lines = str(error).splitlines() or [type(error).__name__]
    raise ParquetError(
      f"is a damaged or unreadable Parquet file ({lines[0].rstrip('.')})"
    ) from error


class ParquetRows:
  """An open Parquet file, read by row groups. Thread-safe.

  `kept` may be shared by files: `version` tells their content apart.
  """

  def __init__(self, file: BinaryIO, kept: KeptTables | None = None, version: Hashable = None):
    self._lock = threading.Lock()
    self._version = version
    self._failed: dict[Hashable, str] = {}  # Tables that cannot be read, and why.
    with parquet_errors():
      self._parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)
      metadata = self._parquet.metadata
      self.schema = _plain_schema(self._parquet.schema_arrow)
      counts = []
      for group in range(metadata.num_row_groups):
        counts.append(metadata.row_group(group).num_rows)
    self.first_rows = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    self.leaves, self.binary_leaves = self._split_leaves()
    groups = _GROUPS * max(1, len(self.binary_leaves))
    self._kept = kept or KeptTables(groups, groups * LARGEST_HELD, _LARGEST_GROUP)

  def __len__(self) -> int:
    return int(self.first_rows[-1])

  def locate(self, row: int) -> tuple[int, int]:
    """(row group, row in it).

    Raises ParquetError for a row beyond the end.
    """
    if not 0 <= row < len(self):
      raise ParquetError(f"has {len(self)} rows, and so no row {row}")
    group = int(np.searchsorted(self.first_rows, row, "right")) - 1
    return group, row - int(self.first_rows[group])

  def read_group(self, group: int, leaves: Sequence[str]) -> pa.Table:
    """Columns of a row group; the last few are kept."""
    read = functools.partial(self.read_batches, group, leaves)
    return self.kept_table((group, *leaves), read)

  def kept_table(self, name: Hashable, read: Callable[[], Batches]) -> pa.Table:
    """The table of a name, read unless it is kept.

    What is damaged is not tried again. Raises ParquetError.
    """
    key = (self._version, name)
    with self._lock:
      table = self._kept.kept_table(key)
      if table is not None:
        return table
      if name in self._failed:
        raise ParquetError(self._failed[name])
      try:
        with parquet_errors():
          return self._kept.read_table(key, read)
      except ParquetError as error:
        if getattr(error.__cause__, "errno", None) is None:  # Not of the disk, which may recover.
          self._failed[name] = str(error)
        raise

  def leaves_of(self, column: str) -> list[str]:
    """The binary leaves of a column."""
    leaves = []
    for leaf in self.binary_leaves:
      if leaf == column or leaf.startswith(column + "."):
        leaves.append(leaf)
    return leaves

  def nulls(self, group: int, leaf: str) -> tuple[int | None, int]:
    """(number of nulls, number of values) of a leaf.

    The nulls are None if the file does not note them.
    """
    row_group = self._parquet.metadata.row_group(group)
    chunk = row_group.column(self._numbers[leaf])
    statistics = chunk.statistics
    noted = statistics is not None and statistics.has_null_count
    return (statistics.null_count if noted else None), chunk.num_values

  def _split_leaves(self) -> tuple[list[str], list[str]]:
    """The paths of leaves: (text and numbers, binary)."""
    schema = self._parquet.schema
    self._numbers: dict[str, int] = {}
    plain: list[str] = []
    binary: list[str] = []
    for number in range(len(schema)):
      column = schema.column(number)
      self._numbers[column.path] = number
      is_bytes = column.physical_type == "BYTE_ARRAY" and column.logical_type.type == "NONE"
      leaves = binary if is_bytes else plain
      leaves.append(column.path)
    return plain, binary

  def read_batches(self, group: int, leaves: Sequence[str]) -> Batches:
    """Columns of a row group, some MB at a time. Raises ParquetError."""
    rows = int(self.first_rows[group + 1] - self.first_rows[group])
    row_group = self._parquet.metadata.row_group(group)
    size = 0
    for leaf in leaves:
      size += max(0, row_group.column(self._numbers[leaf]).total_uncompressed_size)
    if size > _LARGEST_GROUP:
      raise ParquetError(f"has {size / 1e9:.0f} GB in row group {group}; write smaller row groups")
    wanted = _BATCH * max(rows, 1) // max(size, 1)
    batches = self._parquet.iter_batches(
      batch_size=min(max(wanted, 1), 4096),
      row_groups=[group],
      columns=list(leaves),
      use_threads=False,
    )
    size = 0
    deadline = time.monotonic() + _SECONDS
    for batch in batches:
      size += batch.nbytes
      if size > _LARGEST_GROUP or time.monotonic() > deadline:
        raise ParquetError("has a row group that is too large; write smaller row groups")
      schema = _plain_schema(batch.schema)
      yield batch if schema == batch.schema else batch.cast(schema)


def _plain_schema(schema: pa.Schema) -> pa.Schema:
  return pa.schema([field.with_type(_plain_type(field.type)) for field in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
  """A type without Arrow's variants.

  They are dictionaries, views, and lists of a fixed length.
  """
  if pa.types.is_dictionary(kind):
    return _plain_type(kind.value_type)
  if pa.types.is_binary_view(kind):
    return pa.large_binary()
  if pa.types.is_string_view(kind):
    return pa.large_string()
  if pa.types.is_struct(kind):
    return pa.struct([field.with_type(_plain_type(field.type)) for field in kind.fields])
  if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
    return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)))
  if pa.types.is_large_list(kind):
    return pa.large_list(kind.value_field.with_type(_plain_type(kind.value_type)))
  return kind


def cell_file(path: str, row: int, column: str, place: int | None) -> BinaryIO:
  """The bytes of a cell as a file, not copied.

  Raises ParquetError if there are none.
  """
  rows = _rows(path)
  group, offset = rows.locate(row)
  leaves = rows.leaves_of(column)
  if not leaves:
    raise ParquetError("the file has no such column of bytes")
  table = rows.read_group(group, leaves[:1])
  value: Any = table.column(0)[offset]
  if place is not None:
    if not value.is_valid or place >= len(value):
      raise ParquetError("the cell's list is shorter")
    value = value[place]
  if value.is_valid and isinstance(value, pa.StructScalar):
    value = value["bytes"]
  if not value.is_valid or not hasattr(value, "as_buffer"):
    raise ParquetError("the cell has no bytes")
  return pa.BufferReader(value.as_buffer())


def _rows(path: str) -> ParquetRows:
  """The rows of a file's current version."""
  path = remote.local_path(path)
  facts = os.stat(path)
  with _opening:
    return _rows_of_version(path, facts.st_size, facts.st_mtime_ns)


_opening = threading.Lock()


@functools.lru_cache(maxsize=8)
def _rows_of_version(path: str, size: int, changed: int) -> ParquetRows:
  return ParquetRows(open(path, "rb"))
