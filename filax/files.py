# SPDX-License-Identifier: Apache-2.0
"""Atomic files and folders, and caches that check themselves.

A file is written beside its target and renamed: no reader ever sees a part of it, not even after a
kill. A checked file begins with a line that holds the sha256 of the rest. A cache is a checked file
that can be computed again: if it is damaged, or its folder cannot be written, one line on stderr
reports it and the work continues.

Standard library only, so that every part of the project can use it. Atomic writes are of local
files only: a bucket's objects appear complete by themselves.
"""

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import importlib.util
import logging
import os
import pathlib
import re
import shutil
import stat
import sys
import time
from typing import BinaryIO, TypeVar
import uuid

from filax import disk_errors, processes

_SCHEMES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}  # scheme -> (package, extra)
_CHECKED = b"filax-checked-1 sha256:"  # Start of the first line of a checked file.
_FIRST_LINE = len(_CHECKED) + 64 + 1  # Bytes.
_LEFTOVER = re.compile(
  r".+\.(?P<host>[A-Za-z0-9-]+)\.(?P<pid>[1-9][0-9]*)-(?P<start>[0-9]+)\.[0-9a-f]{8}\.tmp",
  re.DOTALL,
)
_OLD_SECONDS = 24 * 60 * 60.0
_NAME_BYTES = 120  # Bytes of a temporary name taken from its target; the limit for all is 255.

_reported: set[str] = set()  # Damaged files and unwritable folders already reported.

Parsed = TypeVar("Parsed")


class DamagedFile(ValueError):
  """A checked file differs from what was written.

  The message names the file.
  """


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """Opens a binary file that appears under `path` after the block.

  Until then it lies beside `path`, under a name that identifies the writer; an error in the block
  removes it. The folder is made if it is missing. Raises OSError; that of a full disk names `path`.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = temporary_name(path)
  try:
    with disk_errors.naming(path):
      with open(temporary, "xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)
    _reported.discard(os.fspath(path))
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink()


@contextlib.contextmanager
def write_folder_atomically(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Makes a folder that appears under `path` after the block.

  Until then it lies beside `path`; an error in the block removes it with its content. An empty
  folder at `path` is replaced. Raises OSError, also for a folder at `path` that is not empty; that
  of a full disk names `path`.
  """
  path = pathlib.Path(path)
  temporary = temporary_name(path)
  try:
    with disk_errors.naming(path):
      temporary.mkdir(parents=True)
      yield temporary
      os.replace(temporary, path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def temporary_name(path: pathlib.Path) -> pathlib.Path:
  """A unique name beside `path` that `remove_leftovers` recognises."""
  target = path.name.encode(errors="surrogateescape")[:_NAME_BYTES].decode(errors="ignore")
  pid = os.getpid()
  writer = f"{processes.host()}.{pid}-{processes.process_start(pid)}"
  return path.with_name(f"{target}.{writer}.{uuid.uuid4().hex[:8]}.tmp")


def absolute(path: str | os.PathLike) -> str:
  """An absolute path, `~` expanded; URLs stay unchanged."""
  text = os.fspath(path)
  return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def is_bucket(path: str | os.PathLike) -> bool:
  """Whether a path is that of an object store: gs://, s3://."""
  return "://" in str(path)


def check_scheme(path: str | os.PathLike) -> None:
  """Checks that buckets of this kind can be used.

  Raises ValueError for an unknown kind or a missing package.
  """
  if not is_bucket(path):
    return
  scheme = str(path).partition("://")[0]
  if scheme not in _SCHEMES:
    raise ValueError(f"{path} is of an unknown kind. Buckets are gs://… and s3://….")
  package, extra = _SCHEMES[scheme]
  if importlib.util.find_spec(package) is None:
    raise ValueError(
      f"{path} needs the package {package}. Install FiLax with its extra {extra}: "
      f"pip install 'filax[{extra}]'."
    )
  logging.getLogger(package).setLevel(logging.CRITICAL)  # Its errors are also raised.


def write_checked(path: str | os.PathLike, content: bytes | memoryview, label: str = "") -> None:
  """Writes `content` after one line with its digest, atomically.

  label: names the content. It is part of the digest but not written: a reader passes the same
  label, so that a file under another file's name counts as damaged. Raises OSError.
  """
  with write_atomically(path) as file:
    file.write(digest_line(content, label))
    file.write(content)


def read_checked(path: str | os.PathLike, label: str = "") -> bytes:
  """The content that `write_checked` wrote.

  Raises FileNotFoundError if there is no file, DamagedFile if its digest differs or is missing, and
  another OSError if it cannot be read.
  """
  if not stat.S_ISREG(os.stat(path).st_mode):  # Opening a pipe would block forever.
    raise DamagedFile(f"{os.fspath(path)} is not a file.")
  with open(path, "rb") as file:
    line = file.readline(_FIRST_LINE)
    content = file.read()
  if not line.startswith(_CHECKED):
    raise DamagedFile(f"{os.fspath(path)} is not what was written: it begins with no digest.")
  if line != digest_line(content, label):
    raise DamagedFile(f"{os.fspath(path)} is not what was written: its digest differs.")
  return content


def make_file(path: str | os.PathLike) -> None:
  """Makes an empty file, unless there is one.

  Its mode follows the umask. SQLite gives its own files no right of writing for a group.
  """
  with contextlib.suppress(FileExistsError):
    pathlib.Path(path).touch(exist_ok=False)


def digest_line(content: bytes | memoryview, label: str) -> bytes:
  """The first line of a checked file."""
  digest = hashlib.sha256(label.encode() + b"\n")
  digest.update(content)
  return _CHECKED + digest.hexdigest().encode() + b"\n"


def read_cache(
  path: str | os.PathLike, parse: Callable[[bytes], Parsed], label: str = ""
) -> Parsed | None:
  """Parses a checked file; None if it must be computed again.

  A damaged file is reported on stderr, a missing one is not. Never raises.
  """
  try:
    return parse(read_checked(path, label))
  except (FileNotFoundError, NotADirectoryError):
    return None
  except Exception as error:  # Parsers may raise anything for invalid content.
    report_damage(path, error)
    return None


def write_cache(path: str | os.PathLike, content: bytes | memoryview, label: str = "") -> bool:
  """`write_checked`; on failure, a line on stderr and False."""
  try:
    write_checked(path, content, label)
  except OSError as error:
    report_unwritable(pathlib.Path(path).parent, error)
    return False
  return True


def report_damage(path: str | os.PathLike, error: Exception) -> None:
  """Reports on stderr, once, that a cache file is computed again.

  It is reported again only after the file was written. Of the files of a folder that another user
  has closed, the first is reported for all.
  """
  path = os.fspath(path)
  if isinstance(error, PermissionError):
    all_files = os.path.join(os.path.dirname(path), "*")
    reason = f"{path} cannot be read ({_reason(error)})."
    _report(all_files, f"{reason} All such files of its folder are made anew.")
    return
  reason = str(error)
  if not isinstance(error, DamagedFile):
    reason = f"{path} cannot be read ({_reason(error)})."
  _report(path, f"{reason} It is made anew.")


def report_unwritable(folder: str | os.PathLike, error: OSError) -> None:
  """Reports once per process that a cache folder cannot be written."""
  _report(
    folder,
    f"{os.fspath(folder)} cannot be written ({_reason(error)}): what it would keep is made anew.",
  )


def _report(path: str | os.PathLike, sentence: str) -> None:
  if os.fspath(path) not in _reported:
    _reported.add(os.fspath(path))
    print(sentence, file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
  return getattr(error, "strerror", None) or str(error) or type(error).__name__


def remove_leftovers(folder: str | os.PathLike) -> list[pathlib.Path]:
  """Removes temporary files and folders of killed writers; returns their paths.

  Only names made by `temporary_name` are leftovers: those of an ended process of this host, and
  those of another host (or of this one before its restart) that are older than a day. Files of
  other programs stay. Never raises.
  """
  removed = []
  with contextlib.suppress(OSError):
    for path in list(pathlib.Path(folder).iterdir()):
      if _is_leftover(path) and _removed(path):
        removed.append(path)
  return removed


def _is_leftover(path: pathlib.Path) -> bool:
  match = _LEFTOVER.fullmatch(path.name)
  if match is None:
    return False
  if match["host"] == processes.host():
    start = int(match["start"])
    runs = processes.process_runs(int(match["pid"]), start)
    if start or not runs:
      return not runs
  try:
    return time.time() - path.lstat().st_mtime > _OLD_SECONDS
  except OSError:
    return False


def _removed(path: pathlib.Path) -> bool:
  try:
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path)
    else:
      path.unlink()
  except OSError:
    return False
  return True
