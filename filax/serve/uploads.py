# SPDX-License-Identifier: Apache-2.0
"""Files that clients uploaded: random names, a total quota, a life time."""

from collections.abc import Iterator
import contextlib
import dataclasses
import pathlib
import re
import secrets
import threading
import time
from typing import BinaryIO

from filax.serve.requests import RequestError
from filax.temporary_folder import TemporaryFolder

_PART = 1 << 20  # Bytes written at a time.
REQUEST = "request"  # The purpose of files that belong to a request; they are never listed.
_PREFIX = "filax-serve-"
_UNSAFE = re.compile(r"[^\w. ()-]")


@dataclasses.dataclass
class StoredFile:
  """A file of a client, whose name on disk is its id."""

  id: str
  name: str  # The client's, for lists.
  bytes: int
  purpose: str
  created: float  # Seconds of time.time().
  path: pathlib.Path
  users: int = 0  # Requests that read it; its content stays meanwhile.
  removed: bool = False  # It has no name any more, and goes with its last user.


class UploadStore:
  """A folder of uploaded files within a number of bytes.

  Its folder is new, private to this user, and removed by `close`. Folders that killed servers left
  behind are removed at the start.
  """

  def __init__(self, most_bytes: int, seconds: float, parent: str = ""):
    self._most_bytes = most_bytes
    self._seconds = seconds
    self._lock = threading.Lock()
    self._files: dict[str, StoredFile] = {}
    self._bytes = 0
    self._folder = TemporaryFolder(_PREFIX, parent)

  @property
  def folder(self) -> pathlib.Path:
    """The store's folder, which goes with it."""
    return self._folder.path

  @property
  def bytes(self) -> int:
    """Bytes of all files."""
    return self._bytes

  def add_file(self, source: BinaryIO, name: str, purpose: str = "user_data") -> StoredFile:
    """Copies a file into the store.

    Raises RequestError for an empty file, and when the quota is used up.
    """
    self.remove_old()
    file_id = f"file-{secrets.token_urlsafe(24)}"
    path = self._folder.path / file_id
    size = 0
    try:
      with open(path, "xb") as target:
        while content := source.read(_PART):
          self._reserve(len(content))
          size += len(content)
          target.write(content)
      if not size:
        raise RequestError("The file is empty.", parameter="file")
    except BaseException:
      path.unlink(missing_ok=True)
      self._reserve(-size)
      raise
    stored = StoredFile(file_id, safe_name(name), size, purpose, time.time(), path)
    with self._lock:
      self._files[file_id] = stored
    return stored

  def find_upload(self, file_id: str) -> StoredFile:
    """A file by its id. Raises RequestError."""
    self.remove_old()
    with self._lock:
      stored = self._files.get(file_id)
    if stored is None:
      raise _no_such_file()
    return stored

  def path_of(self, file_id: str) -> pathlib.Path:
    """Where an uploaded file lies. Raises RequestError."""
    return self.find_upload(file_id).path

  @contextlib.contextmanager
  def in_use(self, stored: StoredFile) -> Iterator[None]:
    """Keeps the content of a file while a request reads it.

    Raises RequestError.
    """
    with self._lock:
      if stored.removed:
        raise _no_such_file()
      stored.users += 1
    try:
      yield
    finally:
      with self._lock:
        stored.users -= 1
        is_last = stored.removed and not stored.users
      if is_last:
        self._delete(stored)

  def files(self) -> list[StoredFile]:
    """All uploaded files, the newest first.

    Those of running requests are not among them.
    """
    self.remove_old()
    with self._lock:
      uploaded = [stored for stored in self._files.values() if stored.purpose != REQUEST]
    return sorted(uploaded, key=lambda stored: -stored.created)

  def remove(self, file_id: str) -> None:
    """Removes a file. Raises RequestError if there is none.

    Requests that read it already read it to their end.
    """
    self.remove_old()
    if not self.discard(file_id):
      raise _no_such_file()

  def discard(self, file_id: str) -> bool:
    """Removes a file, and returns whether there was one."""
    with self._lock:
      stored = self._files.pop(file_id, None)
      if stored is None:
        return False
      stored.removed = True
      is_read = stored.users > 0
    if not is_read:
      self._delete(stored)
    return True

  def remove_old(self) -> None:
    """Removes files beyond their life time that no request reads."""
    oldest = time.time() - self._seconds
    removed = []
    with self._lock:
      for stored in self._files.values():  # The oldest first.
        if stored.created >= oldest:
          break
        if not stored.users:
          removed.append(stored)
      for stored in removed:
        del self._files[stored.id]
        stored.removed = True
    for stored in removed:
      self._delete(stored)

  def _delete(self, stored: StoredFile) -> None:
    """Frees the space of a file without name and user."""
    stored.path.unlink(missing_ok=True)
    self._reserve(-stored.bytes)

  def close(self) -> None:
    """Removes the folder with all files. May be called again."""
    self._folder.close()

  def _reserve(self, size: int) -> None:
    with self._lock:
      if size > 0 and self._bytes + size > self._most_bytes:
        raise RequestError(
          f"The server keeps at most {self._most_bytes} bytes of uploaded files (upload_bytes). "
          "Delete some, or try again later.",
          status=507,
          code="upload_quota",
        )
      self._bytes += size


def _no_such_file() -> RequestError:
  return RequestError("There is no such file.", status=404, code="file_not_found")


def safe_name(name: str) -> str:
  """The last part of a file name, without letters that mean something."""
  last = re.split(r"[/\\]", name)[-1]
  return _UNSAFE.sub("_", last)[:200] or "file"
