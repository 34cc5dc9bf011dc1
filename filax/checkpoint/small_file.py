# SPDX-License-Identifier: Apache-2.0
"""A small file that several processes change by compare-and-swap.

A local file is changed under flock; Google Cloud Storage and S3 compare versions themselves. Other
stores cannot: there the last writer wins.
"""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import os
import pathlib
import time
from typing import Protocol

from etils import epath

from filax import files

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_LOCK_SECONDS = 5.0


class SmallFile(Protocol):
  """A file that changes only if its content is the expected one."""

  def read_content(self) -> bytes | None:
    """The content; None if there is no file. Raises OSError."""

  def swap(self, before: bytes | None, after: bytes | None) -> bool:
    """Replaces the content `before` by `after`; None means no file.

    Returns False if the content is not `before`.
    """


def open_small_file(workdir: epath.PathLike, name: str) -> SmallFile:
  """The file `name` of a workdir, local or in a bucket.

  The folder is created if it is missing.
  """
  text = os.fspath(workdir)
  if text.startswith("gs://"):
    from filax.checkpoint import buckets

    return buckets.GoogleObject(f"{text.rstrip('/')}/{name}")
  if text.startswith("s3://"):
    from filax.checkpoint import buckets

    return buckets.S3Object(f"{text.rstrip('/')}/{name}")
  if "://" in text:
    return PlainFile(epath.Path(text) / name)
  folder = pathlib.Path(text).absolute()
  folder.mkdir(parents=True, exist_ok=True)
  return LocalFile(folder / name)


class LocalFile:
  """A file of this host or of a shared file system.

  It is created by a link and changed in place, so that no reader sees half of it.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path

  def read_content(self) -> bytes | None:
    try:
      return self.path.read_bytes()  # Opened each time: NFS then asks the server.
    except FileNotFoundError:
      return None

  def swap(self, before: bytes | None, after: bytes | None) -> bool:
    if before is None:
      return after is not None and self._create(after)
    with self._locked() as file:
      if file is None or os.pread(file, len(before) + 1, 0) != before:
        return False
      if after is None:
        self.path.unlink()
      else:
        os.pwrite(file, after, 0)
        os.ftruncate(file, len(after))
        os.fsync(file)
      return True

  def _create(self, content: bytes) -> bool:
    temporary = files.temporary_name(self.path)
    try:
      temporary.write_bytes(content)
      os.link(temporary, self.path)
      return True
    except FileExistsError:
      return False
    except OSError as error:
      if error.errno not in (errno.EPERM, *_NO_LOCKS):
        raise
      return self._create_without_links(content)
    finally:
      temporary.unlink(missing_ok=True)

  def _create_without_links(self, content: bytes) -> bool:
    try:
      with open(self.path, "xb") as file:
        file.write(content)
      return True
    except FileExistsError:
      return False

  @contextlib.contextmanager
  def _locked(self) -> Iterator[int | None]:
    """Yields a descriptor of the locked file.

    None if the file is gone or another process keeps it locked.
    """
    try:
      file = os.open(self.path, os.O_RDWR)
    except FileNotFoundError:
      yield None
      return
    try:
      yield file if _lock(file) and self._is_still(file) else None
    finally:
      os.close(file)

  def _is_still(self, file: int) -> bool:
    """Whether the path still names the open file."""
    try:
      return os.path.samestat(os.fstat(file), self.path.stat())
    except FileNotFoundError:
      return False


class PlainFile:
  """A file of a store that cannot compare and swap.

  Two simultaneous changes may both succeed.
  """

  def __init__(self, path: epath.Path):
    self.path = path

  def read_content(self) -> bytes | None:
    return self.path.read_bytes() if self.path.exists() else None

  def swap(self, before: bytes | None, after: bytes | None) -> bool:
    if self.read_content() != before:
      return False
    if after is None:
      self.path.unlink(missing_ok=True)
    else:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      self.path.write_bytes(after)
    return True


def _lock(file: int) -> bool:
  """Locks a file; False if another process holds the lock too long.

  It is True on file systems without locks. A lock is held for moments only.
  """
  deadline = time.monotonic() + _LOCK_SECONDS
  while True:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return True
    except OSError as error:
      if error.errno in _NO_LOCKS:
        return True
      if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > deadline:
        return False
    time.sleep(0.01)
