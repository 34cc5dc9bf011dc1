# SPDX-License-Identifier: Apache-2.0
"""Files that are either whole or absent: written aside, checked by a digest, then renamed.

Standard library only, so that every part of the project can use it. Local files only: a bucket's
objects appear whole by themselves.
"""

from collections.abc import Iterator
import contextlib
import hashlib
import os
import pathlib
import re
import socket
import time
from typing import BinaryIO
import uuid

_CHECKED = b"filax-checked-1 sha256:"  # Begins the first line of a checked file.
_LEFTOVER = re.compile(r"\.(?P<host>[^/]+)\.(?P<pid>[0-9]+)\.[0-9a-f]{8}\.tmp$")
_OLD_SECONDS = 24 * 60 * 60.0


class DamagedFile(ValueError):
  """A checked file does not hold what was written. The message names the file."""


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """Opens a binary file that appears under `path` when the block ends without an error.

  Until then it lies beside `path`, under a name that tells who writes it; an error removes it. The
  folder is made if it is missing. Raises OSError.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = temporary_name(path)
  try:
    with open(temporary, "xb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink()


def temporary_name(path: pathlib.Path) -> pathlib.Path:
  """A name beside `path` that no other writer uses and that `remove_leftovers` knows."""
  host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
  return path.with_name(f"{path.name}.{host}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")


def absolute(path: str | os.PathLike) -> str:
  """A path that no longer depends on the working folder, `~` expanded; URLs stay as they are."""
  text = os.fspath(path)
  return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def write_checked(path: str | os.PathLike, content: bytes) -> None:
  """Writes `content` behind one line with its digest, atomically. Raises OSError."""
  digest = hashlib.sha256(content).hexdigest().encode()
  with write_atomically(path) as file:
    file.write(_CHECKED + digest + b"\n")
    file.write(content)


def read_checked(path: str | os.PathLike) -> bytes:
  """The content that `write_checked` wrote.

  Raises FileNotFoundError if there is no file, DamagedFile if its digest differs or is missing, and
  another OSError if it cannot be read.
  """
  data = pathlib.Path(path).read_bytes()
  line, _, content = data.partition(b"\n")
  expected = _CHECKED + hashlib.sha256(content).hexdigest().encode()
  if line != expected:
    raise DamagedFile(f"{os.fspath(path)} is not what was written (its digest differs).")
  return content


def remove_leftovers(folder: str | os.PathLike) -> list[pathlib.Path]:
  """Removes temporary files of writers that were killed; returns which.

  A file is a leftover if `temporary_name` made its name and its writer was a process of this host
  that has ended, or if it is older than a day. Files of others stay. Never raises.
  """
  removed = []
  with contextlib.suppress(OSError):
    for path in pathlib.Path(folder).iterdir():
      if _is_leftover(path):
        with contextlib.suppress(OSError):
          path.unlink()
          removed.append(path)
  return removed


def process_runs(pid: int) -> bool:
  """Whether a process of this number runs on this host."""
  try:
    os.kill(pid, 0)
  except (ProcessLookupError, OverflowError):
    return False
  except PermissionError:
    return True
  return True


def _is_leftover(path: pathlib.Path) -> bool:
  match = _LEFTOVER.search(path.name)
  if match is None:
    return False
  host = temporary_name(path).name.removeprefix(f"{path.name}.").split(".")[0]
  if match["host"] == host and not process_runs(int(match["pid"])):
    return True
  try:
    return time.time() - path.lstat().st_mtime > _OLD_SECONDS
  except OSError:
    return False
