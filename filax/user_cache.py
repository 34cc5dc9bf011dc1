# SPDX-License-Identifier: Apache-2.0
"""The user's cache folder, and folders in it that only the user may write.

  $FILAX_CACHE, else $XDG_CACHE_HOME/filax, else ~/.cache/filax

A user without a home folder, as in many containers, has filax-UID in the folder of temporary files.
Another user may have made it: then it is refused.

Standard library only.
"""

import contextlib
import os
from pathlib import Path
import stat
import tempfile

from filax import files

KNOB = "FILAX_CACHE"


def cache_folder(name: str) -> Path:
  """The folder `name` of the user's cache; it need not exist.

  Raises PermissionError if there is no home folder, and others could change what is in the cache.
  """
  folder = os.environ.get(KNOB)
  if not folder:
    parent = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(parent, "filax")
    if folder.startswith("~"):  # There is no HOME, and no entry of the user in /etc/passwd.
      folder = _temporary_cache()
  return Path(files.absolute(folder), name)


def _temporary_cache() -> str:
  """The cache of a user without a home folder; it is made."""
  folder = os.path.join(tempfile.gettempdir(), f"filax-{os.geteuid()}")
  make_private(Path(folder))
  return folder


def own_folder(name: str) -> Path:
  """The folder `name` of the cache, or `name-UID` beside another user's.

  Several users may share $FILAX_CACHE.
  """
  folder = cache_folder(name)
  with contextlib.suppress(OSError):
    if folder.stat().st_uid != os.geteuid():
      return cache_folder(f"{name}-{os.geteuid()}")
  return folder


def make_private(folder: Path) -> None:
  """Makes a folder that only this user can write.

  Its mode is 0700; one that exists keeps its mode. Raises OSError if it cannot be made, and
  PermissionError if another user could change what is in it: owns it, may write it, or may put
  another folder in its place.
  """
  folder.parent.mkdir(parents=True, exist_ok=True)
  folder.mkdir(mode=0o700, exist_ok=True)
  status = folder.stat()
  if status.st_uid != os.geteuid():
    raise _refusal(f"{folder} belongs to user {status.st_uid}")
  if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
    raise _refusal(f"{folder} can be written by other users (chmod go-w ends that)")
  for parent in folder.resolve().parents:
    status = parent.stat()
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
      raise _refusal(f"{folder} can be replaced by other users, who may write {parent}")
    is_shared = parent.parent.stat().st_mode & stat.S_IWOTH
    if is_shared and status.st_uid not in (0, os.geteuid()):
      raise _refusal(f"{folder} can be replaced by user {status.st_uid}, who owns {parent}")


def _refusal(reason: str) -> PermissionError:
  return PermissionError(f"{reason}. Set {KNOB} to a folder that only you can write.")
