# SPDX-License-Identifier: Apache-2.0
"""Arrays on disk that processes map instead of holding copies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import hashlib
import io
import json
import math
import os
import pathlib
import shutil
import sys
import threading
import time
from typing import Any, TypeVar
import weakref

import numpy as np

from data_pipelines.npy_content import HEADERS
from filax import files
from filax.temporary_folder import TemporaryFolder

try:
  import fcntl
except ImportError:  # Not on Windows, where two processes may build the same files.
  fcntl = None  # type: ignore[assignment]  # A module that may be missing has no type.

Owner = TypeVar("Owner")

_META = "meta.json"
_SHORT_SECONDS = 2.0  # A wait for another process that is not worth a line.
_LOOK_SECONDS = 0.02
_guard = threading.Lock()
_locks: weakref.WeakValueDictionary[str, threading.RLock] = weakref.WeakValueDictionary()
_depths: dict[str, int] = {}  # Blocks of `one_builder` around one another, by folder in use.


@contextlib.contextmanager
def one_builder(folder: str | os.PathLike, activity: str) -> Iterator[None]:
  """Lets one process at a time build in a folder.

  The others wait. activity: what the builder does, for a line on stderr. Without locks (on some
  network file systems) every process builds, which costs time alone.
  """
  with _outermost_block(os.path.realpath(folder)) as is_outermost:
    lock = _opened_folder(folder) if is_outermost else None
    try:
      if lock is not None:
        _wait_for_lock(lock, activity)
      yield
    finally:
      if lock is not None:
        os.close(lock)


def threads_lock(name: str) -> threading.RLock:
  """The lock of a name between the threads of this process.

  It is forgotten when no thread uses it: names may be those of millions of files.
  """
  with _guard:
    return _locks.setdefault(name, threading.RLock())


@contextlib.contextmanager
def _outermost_block(folder: str) -> Iterator[bool]:
  """Excludes the other threads of this process from a folder.

  Gives whether this is the outermost block of its thread: building rows measures texts, in the same
  folder, and a process that locks a file twice would wait for itself.
  """
  with threads_lock(folder):
    depth = _depths.get(folder, 0)
    _depths[folder] = depth + 1
    try:
      yield depth == 0
    finally:
      if depth:
        _depths[folder] = depth
      else:
        del _depths[folder]


def _opened_folder(folder: str | os.PathLike) -> int | None:
  """A descriptor of a folder, which is made if missing.

  It is None if the folder cannot be locked.
  """
  if fcntl is None:
    return None
  try:
    os.makedirs(folder, exist_ok=True)
    return os.open(folder, os.O_RDONLY)
  except OSError:
    return None


def _wait_for_lock(lock: int, activity: str) -> None:
  """Locks a folder, where there are locks; a long wait is printed."""
  deadline = time.monotonic() + _SHORT_SECONDS
  while True:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return
    except BlockingIOError:
      if time.monotonic() > deadline:
        break
      time.sleep(_LOOK_SECONDS)
    except OSError:
      return
  print(f"waiting for another process, which {activity}", file=sys.stderr, flush=True)
  with contextlib.suppress(OSError):
    fcntl.flock(lock, fcntl.LOCK_EX)


def keep_arrays(
  folder: pathlib.Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any], label: str
) -> bool:
  """Writes arrays and facts as a new folder of a cache.

  facts: for JSON. label: identifies what the arrays are made of. If another host has written the
  same folder meanwhile, that one stays, because processes may have mapped it. A failure costs a
  line on stderr and gives False.
  """
  try:
    write_arrays(folder, arrays, facts, label)
  except OSError as error:
    if read_facts(folder, label) is None:
      files.report_unwritable(folder.parent, error)
      return False
  return True


def write_arrays(
  folder: pathlib.Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any], label: str
) -> None:
  """Writes arrays and facts as a folder.

  A damaged folder is replaced. Raises OSError, also if a good one stands there.
  """
  with files.write_folder_atomically(folder) as new:
    for name, array in arrays.items():
      np.save(new / f"{name}.npy", array)
    digests = {path.name: _file_digest(path) for path in sorted(new.glob("*.npy"))}
    content = json.dumps(dict(facts=facts, digests=digests)).encode()
    files.write_checked(new / _META, content, label)
    if folder.exists() and read_facts(folder, label) is None:
      shutil.rmtree(folder, ignore_errors=True)


def in_temporary_folder(prefix: str, build: Callable[[pathlib.Path], Owner]) -> Owner:
  """What `build` makes in a temporary folder, which is removed with it."""
  folder = TemporaryFolder(prefix)
  try:
    owner = build(folder.path)
  except BaseException:
    folder.close()
    raise
  weakref.finalize(owner, folder.close)
  return owner


def read_facts(folder: pathlib.Path, label: str) -> dict[str, Any] | None:
  """The facts of a folder, whose arrays are compared with their digests.

  None if it is missing or damaged.
  """

  def checked_facts(content: bytes) -> dict[str, Any]:
    meta = json.loads(content)
    for name, digest in meta["digests"].items():
      if _file_digest(folder / name) != digest:
        raise files.DamagedFile(f"{folder / name} is not what was written: its digest differs.")
    return meta["facts"]

  return files.read_cache(folder / _META, checked_facts, label)


def map_array(folder: pathlib.Path, name: str) -> np.ndarray:
  """Maps an array of a folder; processes share its pages."""
  with HEADERS:
    array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
  return np.asarray(array) if len(array) else np.zeros(array.shape, array.dtype)


def map_cached_array(path: pathlib.Path, label: str) -> np.ndarray | None:
  """Maps the array of an .npy file that files.write_cache wrote.

  None if it is missing or damaged.
  """

  def map_after_header(content: bytes) -> tuple[int, np.ndarray]:
    header = io.BytesIO(content)
    version = np.lib.format.read_magic(header)
    read_header = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    with HEADERS:
      shape, fortran, dtype = read_header(header)
    size = math.prod(shape) * dtype.itemsize
    if fortran or dtype.hasobject or size != len(content) - header.tell():
      raise ValueError("it holds no plain array")
    offset = os.path.getsize(path) - len(content) + header.tell()
    if not size:
      return offset, np.zeros(shape, dtype)
    return offset, np.asarray(np.memmap(path, dtype, "r", offset, shape))

  cached = files.read_cache(path, map_after_header, label)
  return None if cached is None else cached[1]


def range_starts(counts: Sequence[int] | np.ndarray) -> np.ndarray:
  """The starts of consecutive ranges, and the last end: i64 [n+1]."""
  starts = np.zeros(len(counts) + 1, np.int64)
  np.cumsum(counts, out=starts[1:])
  return starts


def _file_digest(path: pathlib.Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
