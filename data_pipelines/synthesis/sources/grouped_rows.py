# SPDX-License-Identifier: Apache-2.0
"""Rows of files in any order, grouped by video on disk."""

from collections.abc import Iterable, Iterator
import contextlib
import itertools
import json
import sqlite3
from typing import Any, NamedTuple

from filax.temporary_folder import TemporaryFolder

_TABLE = "CREATE TABLE rows (key TEXT, place REAL, file TEXT, line INTEGER, content TEXT)"


class GroupedRow(NamedTuple):
  """A row of a group."""

  place: float  # The group is sorted by it, then by the content.
  file: str
  line: int
  content: Any


class GroupedRows(contextlib.AbstractContextManager):
  """Rows under keys, in a temporary file of sqlite.

  Memory does not depend on the number of rows; the file takes about their size in $TMPDIR.
  """

  def __init__(self) -> None:
    self._folder = TemporaryFolder("filax-rows-")
    self._base = sqlite3.connect(self._folder.path / "rows.sqlite")
    self._base.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
    self._base.execute(_TABLE)

  def __exit__(self, *error: object) -> None:
    self._base.close()
    self._folder.close()

  def add_rows(self, rows: Iterable[tuple[str, GroupedRow]]) -> None:
    """Adds (key, row); contents must be JSON."""
    encoded = map(_encoded, rows)
    while batch := list(itertools.islice(encoded, 10_000)):
      self._base.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", batch)

  def groups(self) -> Iterator[tuple[str, list[GroupedRow]]]:
    """(key, its rows) in the order of the keys."""
    self._base.execute("CREATE INDEX IF NOT EXISTS by_key ON rows (key, place, content)")
    rows = self._base.execute("SELECT * FROM rows ORDER BY key, place, content, file, line")
    for key, members in itertools.groupby(rows, key=_first):
      yield key, list(map(_decoded, members))


def _encoded(row: tuple[str, GroupedRow]) -> tuple:
  key, (place, file, line, content) = row
  return key, place, file, line, json.dumps(content)


def _decoded(fields: tuple) -> GroupedRow:
  _, place, file, line, content = fields
  return GroupedRow(place, file, line, json.loads(content))


def _first(fields: tuple) -> str:
  return fields[0]
