# SPDX-License-Identifier: Apache-2.0
"""Temporary folders of which killed processes leave none for long.

A folder holds a lock as long as its process lives. The next process that makes such a folder
removes those whose locks are free. Standard library only.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
from typing import BinaryIO

try:
  import fcntl
except ImportError:  # Not on Windows, where folders of killed processes stay.
  fcntl = None  # type: ignore[assignment]  # A module that may be missing has no type.

_LOCK = ".lock"
_NEW_LOCK = ".new-lock"  # Until it is locked: nobody may take an unlocked one for a leftover.


class TemporaryFolder(contextlib.AbstractContextManager):
  """A new folder, private to this user, that `close` removes.

  prefix: the start of its name. parent: where it is made (default: the folder of temporary files).
  Folders below `parent` with this prefix that killed processes of this user left are removed.
  Raises OSError.
  """

  def __init__(self, prefix: str, parent: str | os.PathLike = ""):
    place = os.fspath(parent) or tempfile.gettempdir()
    os.makedirs(place, exist_ok=True)
    _remove_leftovers(pathlib.Path(place), prefix)
    self.path = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    try:
      self._lock = _made_lock(self.path)
    except BaseException:
      shutil.rmtree(self.path, ignore_errors=True)
      raise

  def close(self) -> None:
    """Removes the folder with its content. May be called again."""
    shutil.rmtree(self.path, ignore_errors=True)
    self._lock.close()

  def __exit__(self, *_):
    self.close()


def _made_lock(folder: pathlib.Path) -> BinaryIO:
  """The open lock of a new folder."""
  lock = open(folder / _NEW_LOCK, "xb")
  with contextlib.suppress(OSError):  # Some network file systems have no locks.
    _lock(lock)
    os.rename(folder / _NEW_LOCK, folder / _LOCK)
  return lock


def _lock(file: BinaryIO) -> None:
  """Locks a file. Raises OSError if another process holds it."""
  if fcntl is None:
    raise OSError("this system has no locks")
  fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_leftovers(parent: pathlib.Path, prefix: str) -> None:
  """Removes the folders of this user's processes that no longer live."""
  if fcntl is None:
    return
  for folder in parent.glob(f"{prefix}*"):
    with contextlib.suppress(OSError):  # One that is in use, or just gone.
      is_own = folder.lstat().st_uid == os.geteuid()
      if not is_own or not (folder / _LOCK).is_file():  # Without a lock it is being made.
        continue
      with open(folder / _LOCK, "ab") as lock:
        _lock(lock)
        shutil.rmtree(folder, ignore_errors=True)
