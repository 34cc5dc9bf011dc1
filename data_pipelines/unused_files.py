# SPDX-License-Identifier: Apache-2.0
"""Removes the planned files of a cache folder that no run has used for long.

A file's time of change is that of its last use. Removing is safe: what a process has mapped stays
readable, and what is missing is made again.
"""

import contextlib
import os
import pathlib
import re
import shutil
import time
from typing import BinaryIO

try:
  import fcntl
except ImportError:  # Not on Windows, where tables in use are known by their time alone.
  fcntl = None  # type: ignore[assignment]  # A module that may be missing has no type.

DAYS = 30  # Without use, after which a file is removed.
_DAY = 24 * 60 * 60.0
_PLANNED = re.compile(r"(samples|sizes|rows|media)-[0-9a-f]{32}.*")
_HELD = "meta.json"  # Of a folder: locked by the processes that use it.


def mark_used(path: pathlib.Path) -> None:
  """Sets the time of the last use to now."""
  with contextlib.suppress(OSError):
    os.utime(path)


def hold_folder(folder: pathlib.Path) -> BinaryIO | None:
  """Keeps a folder from being removed while the returned file is open.

  Workers that are started later map it by its path. None if it cannot be locked.
  """
  mark_used(folder)
  with contextlib.suppress(OSError):
    file = open(folder / _HELD, "rb")
    if fcntl is not None:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return file
  return None


def remove_unused(folder: pathlib.Path) -> None:
  """Removes what was not used for DAYS and is not held.

  To be called by the one builder of the folder. Never raises.
  """
  oldest = time.time() - DAYS * _DAY
  with contextlib.suppress(OSError):
    for path in list(folder.iterdir()):
      if not _PLANNED.fullmatch(path.name):
        continue
      with contextlib.suppress(OSError):
        if path.stat().st_mtime < oldest and not _is_held(path):
          _remove(path)


def _is_held(path: pathlib.Path) -> bool:
  if fcntl is None or not path.is_dir():
    return False
  try:
    with open(path / _HELD, "r+b") as file:  # NFS locks only what may be written exclusively.
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except (BlockingIOError, PermissionError):  # In use, or another user's.
    return True
  except OSError:  # Without its meta.json it cannot be used.
    return False
  return False


def _remove(path: pathlib.Path) -> None:
  if path.is_dir():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink()
