# SPDX-License-Identifier: Apache-2.0
"""A cache of visual tokens, keyed by the content of media and bounded in bytes."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
import hashlib
import os
import threading
from typing import Any

from filax.infer.encoded_media import EncodedMedia

_REMEMBERED = 4096  # Files whose digest is known without reading them again.
_PART = 1 << 20  # Bytes read at a time.


class FeatureCache:
  """Encoded media by key; those used longest ago are dropped first.

  The tables stay on the device.
  """

  def __init__(self, most_bytes: int):
    self._most_bytes = most_bytes
    self._lock = threading.Lock()
    self._media: OrderedDict[str, EncodedMedia] = OrderedDict()
    self._bytes = 0

  @property
  def bytes(self) -> int:
    """Bytes of all tables that are kept."""
    return self._bytes

  def cached_media(self, key: str) -> EncodedMedia | None:
    """The encoded medium of a key, or None."""
    with self._lock:
      media = self._media.get(key)
      if media is not None:
        self._media.move_to_end(key)
      return media

  def keep(self, key: str, media: EncodedMedia) -> None:
    """Keeps a medium; one larger than the whole cache is not kept."""
    size = media.table.nbytes
    if size > self._most_bytes:
      return
    with self._lock:
      if key in self._media:
        return
      self._media[key] = media
      self._bytes += size
      while self._bytes > self._most_bytes:
        _, oldest = self._media.popitem(last=False)
        self._bytes -= oldest.table.nbytes


class SharedReads:
  """Media that are being read, each once for all its requests."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._reads: dict[str, Future] = {}

  def read_once(self, key: str, function: Callable[[], Any], seconds: float) -> Any:
    """function(), or the result of a call for the same key.

    Waits at most `seconds` for the other call, and then raises TimeoutError. A result is shared
    until `drop_read`.
    """
    with self._lock:
      future = self._reads.get(key)
      is_owner = future is None
      if future is None:
        future = Future()
        self._reads[key] = future
    if not is_owner:
      try:
        return future.result(seconds)
      except TimeoutError:
        self.drop_read(key)
        raise
    try:
      result = function()
    except BaseException as error:
      self.drop_read(key)
      future.set_exception(error)
      raise
    future.set_result(result)
    return result

  def drop_read(self, key: str) -> None:
    """Lets the next request read the medium again."""
    with self._lock:
      self._reads.pop(key, None)


class ContentDigests:
  """sha256 of files, which are read again when they change."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._digests: OrderedDict[tuple, str] = OrderedDict()

  def of_file(self, path: str) -> str:
    """The digest of a file's content. Raises OSError."""
    status = os.stat(path)
    key = (path, status.st_ino, status.st_size, status.st_mtime_ns)
    with self._lock:
      digest = self._digests.get(key)
    if digest is not None:
      return digest
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
      while content := file.read(_PART):
        sha256.update(content)
    digest = sha256.hexdigest()
    with self._lock:
      self._digests[key] = digest
      while len(self._digests) > _REMEMBERED:
        self._digests.popitem(last=False)
    return digest
