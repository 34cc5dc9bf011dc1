# SPDX-License-Identifier: Apache-2.0
"""Keeps the copies of bucket objects below a size: the longest unused are removed.

The time of last access of a copy is that of its last use. A copy that was used in the last
KEPT_SECONDS is never removed, whatever the bound; an open or mapped file stays readable after it.
Removing and marking exclude each other by a lock, so a marked copy stays for KEPT_SECONDS.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
import sys
import threading
import time
from typing import NamedTuple

from filax import user_cache

try:
  import fcntl
except ImportError:  # Not on Windows, where a copy may vanish between its look-up and its opening.
  fcntl = None  # type: ignore[assignment]  # A module that may be missing has no type.

BOUND = "FILAX_DOWNLOADS_GB"
KEPT_SECONDS = 600.0  # For which a copy stays after its last use.
_MARKED_SECONDS = 60.0  # A copy is marked once in this time, so that its use costs one stat.
_SHARE = 0.8  # The default bound, as a share of the space that is free or taken by copies.
_LEFT = 0.9  # Copies are removed until they take this share of the bound.
_BETWEEN = 0.01  # A process measures the folder again after it fetched this share of the bound.
_LOCK = "lock"

_guard = threading.Lock()
_waiting: dict[str, float] = {}  # Folder -> bytes that this process may fetch before it measures.


class _Copy(NamedTuple):
  used: float  # Seconds since 1970.
  size: int
  path: str


def downloads_folder() -> pathlib.Path:
  """Where copies of objects are kept."""
  return user_cache.cache_folder("downloads")


def mark_used(path: pathlib.Path, facts: os.stat_result) -> bool:
  """Marks a copy as used now; False if it was removed meanwhile.

  Its time of last change stays: it tells readers of shards that the content is the same.
  """
  now = time.time_ns()
  if now / 1e9 - _last_use(facts) < _MARKED_SECONDS:
    return True
  try:
    with _locked(downloads_folder() / _LOCK, exclusive=False):
      os.utime(path, ns=(now, facts.st_mtime_ns))
  except FileNotFoundError:
    return False
  except OSError:  # A folder that cannot be written: nothing is removed from it either.
    pass
  return True


def make_room(size: int) -> None:
  """Keeps the copies of this machine within the bound.

  If they exceed it, those that were unused for longest are removed. size: bytes of a copy that
  comes or came. The folder is measured for the first one of a process, and then whenever it has
  fetched a hundredth of the bound.
  """
  folder = downloads_folder()
  with _guard:
    left = _waiting.get(os.fspath(folder), 0.0) - size
    _waiting[os.fspath(folder)] = left
    if left > 0:
      return
    copies = sorted(_copies(folder))
    used = sum(copy.size for copy in copies)
    bound = size_bound(folder, used)
    if used + size > bound:
      _remove_oldest(folder, copies, used + size - _LEFT * bound)
    _waiting[os.fspath(folder)] = _BETWEEN * bound


def size_bound(folder: pathlib.Path, used: int) -> float:
  """The bytes that copies may take together.

  used: what they take now.
  """
  text = os.environ.get(BOUND, "")
  if text:
    try:
      gigabytes = float(text)
    except ValueError:
      gigabytes = -1.0
    if gigabytes > 0:
      return gigabytes * 1e9
    print(f"${BOUND}={text!r} is not a number of gigabytes: the default is used.", file=sys.stderr)
  try:
    free = shutil.disk_usage(folder).free
  except OSError:
    return float("inf")
  return _SHARE * (used + free)


def _copies(folder: pathlib.Path) -> Iterator[_Copy]:
  """All files in the folders of copies, whole and partial ones."""
  for group in _entries(os.fspath(folder)):
    for object_folder in _entries(group.path):
      for entry in _entries(object_folder.path):
        with contextlib.suppress(OSError):
          facts = entry.stat(follow_symlinks=False)
          yield _Copy(_last_use(facts), facts.st_size, entry.path)


def _last_use(facts: os.stat_result) -> float:
  """When a copy was last used, in seconds since 1970.

  The later of its reading and its change, as a copy that is being fetched is not read.
  """
  return max(facts.st_atime, facts.st_mtime)


def _entries(folder: str) -> list[os.DirEntry[str]]:
  try:
    with os.scandir(folder) as entries:
      return list(entries)
  except OSError:  # It is none, or was removed meanwhile.
    return []


def _remove_oldest(folder: pathlib.Path, copies: list[_Copy], surplus: float) -> None:
  latest = time.time() - KEPT_SECONDS
  for copy in copies:
    if surplus <= 0 or copy.used > latest:
      return
    if _removed(folder, copy.path, latest):
      surplus -= copy.size


def _removed(folder: pathlib.Path, path: str, latest: float) -> bool:
  """Removes a copy that was not used after `latest`.

  Returns whether it is gone.
  """
  try:
    with _locked(folder / _LOCK, exclusive=True):
      if _last_use(os.stat(path)) > latest:
        return False
      os.unlink(path)
    os.rmdir(os.path.dirname(path))
  except FileNotFoundError:
    return True
  except OSError:  # The folder holds another file, or cannot be written.
    return not os.path.exists(path)
  return True


@contextlib.contextmanager
def _locked(path: pathlib.Path, exclusive: bool) -> Iterator[None]:
  """Holds a lock between processes, where the file system has any."""
  if fcntl is None:
    yield
    return
  number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
  try:
    with contextlib.suppress(OSError):
      fcntl.flock(number, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    yield
  finally:
    os.close(number)
