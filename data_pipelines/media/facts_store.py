# SPDX-License-Identifier: Apache-2.0
"""Facts of media in an SQLite file, so that millions of them need not be in memory.

The file is a cache. If it is damaged, one line on stderr says so, and the facts are measured again.
If its folder cannot be written, one line says so, and new facts stay in memory.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import sqlite3
import threading

from data_pipelines.media.probe import Probe
from filax import files

_WAIT_SECONDS = 60.0  # For other processes that write.
_TABLE = (
  "CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, row TEXT, digest BLOB) WITHOUT ROWID"
)
# The part of the file that is memory-mapped, because keys are looked up in random order.
_MAPPED_BYTES = 1 << 30
_PUT = "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)"


class FactsStore:
  """Key -> Probe, in `path`; in memory for None.

  Thread-safe; processes may share the file.

  What `put` is given is written by `commit`. `before`: a JSON file of an earlier version (see
  filax.files.write_cache), whose facts a new file begins with.
  """

  def __init__(self, path: str | os.PathLike | None, before: str | os.PathLike | None = None):
    self._path = None if path is None else pathlib.Path(path)
    self._lock = threading.Lock()
    self._waiting: dict[str, Probe] = {}  # Not in the file yet.
    self._connection: sqlite3.Connection | None = None
    if self._path is not None:
      self._open(before)

  @property
  def path(self) -> pathlib.Path | None:
    """The file; None if the facts are kept in memory."""
    return None if self._connection is None else self._path

  def get(self, key: str) -> Probe | None:
    """The facts of a key; None if they are unknown or damaged."""
    with self._lock:
      if key in self._waiting:
        return self._waiting[key]
      return self._stored(key)

  def put(self, key: str, facts: Probe) -> None:
    """Remembers the facts of a key."""
    with self._lock:
      self._waiting[key] = facts

  def commit(self) -> None:
    """Writes what was put; if that fails, it stays in memory."""
    with self._lock:
      if self._connection is None or not self._waiting:
        return
      try:
        self._write(self._waiting)
      except sqlite3.Error as error:
        self._give_up(error)
      else:
        self._waiting = {}

  def close(self) -> None:
    """Closes the file. Facts that were not written stay readable."""
    with self._lock:
      if self._connection is not None:
        self._connection.close()
        self._connection = None

  def _open(self, before: str | os.PathLike | None) -> None:
    path = self._path
    assert path is not None
    files.remove_leftovers(path.parent)
    is_new = not path.exists()
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      self._connect()
    except sqlite3.DatabaseError as error:
      if isinstance(error, sqlite3.OperationalError):
        self._give_up(error)
        return
      self._replace(error)
    except OSError as error:
      files.report_unwritable(path.parent, error)
      return
    if is_new and before is not None:
      self._waiting.update(files.read_cache(before, _parsed_json) or {})

  def _connect(self) -> None:
    """Opens the file.

    Raises sqlite3.Error if it is damaged or cannot be opened, OSError if it cannot be made.
    """
    files.make_file(self._file_path())
    connection = sqlite3.connect(
      self._file_path(), timeout=_WAIT_SECONDS, check_same_thread=False, isolation_level=None
    )
    try:
      connection.execute("PRAGMA synchronous=NORMAL")
      connection.execute(f"PRAGMA mmap_size={_MAPPED_BYTES}")
      connection.execute(_TABLE)
      connection.execute("SELECT key, row, digest FROM facts LIMIT 1").fetchone()
    except sqlite3.Error:
      connection.close()
      raise
    except UnicodeDecodeError as error:  # In a message of sqlite that names a damaged table.
      connection.close()
      raise sqlite3.DatabaseError("its schema is damaged") from error
    self._connection = connection

  def _stored(self, key: str) -> Probe | None:
    if self._connection is None:
      return None
    try:
      query = "SELECT row, digest FROM facts WHERE key = ?"
      found = self._connection.execute(query, (key,)).fetchone()
    except sqlite3.OperationalError as error:
      self._give_up(error)
      return None
    except sqlite3.DatabaseError as error:
      self._replace(error)
      return None
    if found is None:
      return None
    row, digest = found
    if not isinstance(row, str) or digest != row_digest(key, row):
      files.report_damage(self._file_path(), ValueError("a row differs from its digest"))
      return None
    return Probe(*json.loads(row))

  def _write(self, facts: Mapping[str, Probe]) -> None:
    assert self._connection is not None
    rows = []
    for key, probe in facts.items():
      row = json.dumps(dataclasses.astuple(probe)[:-1], separators=(",", ":"))
      rows.append((key, row, row_digest(key, row)))
    self._connection.execute("BEGIN IMMEDIATE")
    try:
      self._connection.executemany(_PUT, rows)
      self._connection.execute("COMMIT")
    except sqlite3.Error:
      with contextlib.suppress(sqlite3.Error):
        self._connection.execute("ROLLBACK")
      raise

  def _replace(self, error: sqlite3.Error) -> None:
    """Begins a new file instead of a damaged one."""
    path = self._file_path()
    files.report_damage(path, error)
    if self._connection is not None:
      self._connection.close()
      self._connection = None
    try:
      for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
      self._connect()
    except (OSError, sqlite3.Error) as unwritable:
      self._give_up(unwritable)

  def _give_up(self, error: Exception) -> None:
    """Goes on in memory."""
    files.report_unwritable(self._file_path().parent, OSError(str(error)))
    if self._connection is not None:
      self._connection.close()
      self._connection = None

  def _file_path(self) -> pathlib.Path:
    assert self._path is not None
    return self._path


def row_digest(key: str, row: str) -> bytes:
  """Tells whether a row is what was written under its key."""
  return hashlib.blake2b(f"{key}\n{row}".encode(), digest_size=8).digest()


def _parsed_json(content: bytes) -> dict[str, Probe]:
  """Key -> Probe, from the JSON of an earlier version."""
  return {key: Probe(*row) for key, row in json.loads(content).items()}
