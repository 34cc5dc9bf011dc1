# SPDX-License-Identifier: Apache-2.0
"""Objects of buckets (gs://, s3://), read through copies on this machine.

An object is fetched once per machine, when its content is first needed. The copy is the file
downloads/<digest>/<name> below the user's cache folder (filax/user_cache.py). The digest is that of
URL, version (generation or ETag) and size, so a new version gets a new file. media/copies.py bounds
the size of all copies. A process asks for the version of an object once. The functions here return
paths that are not URLs unchanged.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
import contextlib
import dataclasses
import errno
import functools
import hashlib
import os
import pathlib
import posixpath
import re
import stat
import sys
import threading
import time
from typing import Any

from data_pipelines.mapped import one_builder
from data_pipelines.media import copies
from data_pipelines.media.copies import downloads_folder
from filax import files

_SCHEMES = ("gs://", "s3://")
_CONNECT_SECONDS = 20.0
_READ_SECONDS = 60.0  # Without a byte.
_WAITS = (1.0, 3.0, 9.0)  # Seconds before each further try; the clients retry as well.
_REPORT_SECONDS = 2.0
_MANY = 8  # Wanted objects of a folder from which the folder is listed as a whole.
_REMEMBERED = 200_000  # Objects whose version a process remembers.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_DENIED = re.compile(
  r"credential|forbidden|unauthorized|access ?denied|anonymous|refresherror", re.I
)
_LOG_IN = "log in (gcloud auth application-default login; aws configure)"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class RemoteError(OSError):
  """A bucket cannot be read; `strerror` is the reason."""

  def __str__(self):
    return f"{self.filename}: {self.strerror}"


class NoAnswer(RemoteError):
  """A fault that may pass."""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteObject:
  """An object, or what stands before a / in names of objects."""

  url: str
  size: int
  version: int  # The generation, or a digest of the ETag.
  is_folder: bool = False


_asked: dict[str, RemoteObject | None] = {}  # None: there is no such object.
_remembering = threading.Lock()  # Held while `_asked` changes its size.


def is_remote(path: Any) -> bool:
  """Whether a path is that of an object store."""
  return not isinstance(path, bytes) and os.fspath(path).startswith(_SCHEMES)


def absolute(path: str | os.PathLike) -> str:
  """An absolute path; URLs stay unchanged."""
  return os.fspath(path) if is_remote(path) else os.path.abspath(path)


def join(root: str, path: str) -> str:
  """A path below `root`; absolute paths and URLs stay unchanged."""
  return path if is_remote(path) else os.path.join(root, path)


def local_path(path: str | os.PathLike) -> str:
  """The path of a file on this machine.

  An object of a bucket is fetched first, and its copy stays for copies.KEPT_SECONDS: open it by
  then, or ask again. Raises FileNotFoundError, IsADirectoryError, and RemoteError with the reason.
  """
  if not is_remote(path):
    return os.fspath(path)
  url = _normal(path)
  waits = iter(_WAITS)
  while True:
    try:
      return _local_copy(stat_object(url))
    except NoAnswer as error:
      wait = next(waits, None)
      if wait is None:
        raise
      print(f"{error}; trying again in {wait:.0f} s", file=sys.stderr, flush=True)
      time.sleep(wait)


def state(path: str | os.PathLike) -> tuple[int, int]:
  """(size, version or time of change) of a file. Raises OSError."""
  if is_remote(path):
    item = stat_object(path)
    return item.size, item.version
  facts = os.stat(path)
  return facts.st_size, facts.st_mtime_ns


def states(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
  """`state` of the URLs among `paths` that are objects.

  Of folders with many wanted objects, all objects are listed at once. What was found is
  remembered, so that `exists` and `state` ask no more.
  """
  wanted = {path: _normal(path) for path in paths if is_remote(path)}
  folders = Counter(posixpath.dirname(url) for url in wanted.values())
  listed: dict[str, Mapping[str, RemoteObject]] = {}
  for folder, count in folders.items():
    if count >= _MANY:
      with contextlib.suppress(OSError):
        listed[folder] = _listing(folder)
  present = {}
  for path, url in wanted.items():
    listing = listed.get(posixpath.dirname(url))
    with contextlib.suppress(OSError):
      item = stat_object(url) if listing is None else listing.get(url)
      _remember(url, item)
      if item is not None and not item.is_folder:
        present[path] = (item.size, item.version)
  return present


def is_folder(path: str | os.PathLike) -> bool:
  """Whether a path is a folder. Raises OSError."""
  if is_remote(path):
    return stat_object(path).is_folder
  return stat.S_ISDIR(os.stat(path).st_mode)


def is_present_folder(path: str | os.PathLike) -> bool:
  """Whether there is such a folder. Raises RemoteError."""
  try:
    return is_folder(path)
  except (FileNotFoundError, NotADirectoryError):
    return False


def is_file(path: str | os.PathLike) -> bool:
  """Whether there is such a file. Raises RemoteError."""
  if not is_remote(path):
    return os.path.isfile(path)
  try:
    return not stat_object(path).is_folder
  except FileNotFoundError:
    return False


def exists(path: str | os.PathLike) -> bool:
  """Whether there is such a file or folder. Raises RemoteError."""
  if not is_remote(path):
    return os.path.exists(path)
  try:
    return bool(stat_object(path))
  except FileNotFoundError:
    return False


def file_names(folder: str | os.PathLike) -> list[str]:
  """The names in a folder. Raises OSError."""
  if not is_remote(folder):
    return os.listdir(folder)
  return [posixpath.basename(url) for url in _listing(_normal(folder))]


def stat_object(path: str | os.PathLike) -> RemoteObject:
  """Size and version of an object, asked for once a process.

  Raises FileNotFoundError and RemoteError.
  """
  url = _normal(path)
  item = _asked.get(url)  # Read once: another thread may remove it meanwhile.
  if item is None and url not in _asked:
    item = _ask(url)
    _remember(url, item)
  if item is None:
    raise FileNotFoundError(errno.ENOENT, "there is no such object", url)
  return item


def forget_versions() -> None:
  """Forgets what is known of objects."""
  with _remembering:
    _asked.clear()
  _listing.cache_clear()


def _remember(url: str, item: RemoteObject | None) -> None:
  with _remembering:
    while len(_asked) >= _REMEMBERED:
      del _asked[next(iter(_asked))]
    _asked[url] = item


def _normal(path: str | os.PathLike) -> str:
  """A URL without . and .., which cannot leave its bucket."""
  scheme, _, rest = os.fspath(path).partition("://")
  bucket, _, name = rest.partition("/")
  return f"{scheme}://{bucket}{posixpath.normpath('/' + name)}".rstrip("/")


def _bucket(url: str) -> str:
  return "/".join(url.split("/")[:3])


def _local_copy(item: RemoteObject) -> str:
  """The copy of an object, fetched if it is missing or incomplete."""
  if item.is_folder:
    raise IsADirectoryError(errno.EISDIR, "is a folder", item.url)
  digest = hashlib.sha256(f"{item.url} {item.version} {item.size}".encode()).hexdigest()[:32]
  name = _UNSAFE.sub("_", posixpath.basename(item.url))[-100:].lstrip(".")
  path = downloads_folder() / digest[:2] / digest / (name or "object")
  if not _is_complete(path, item):
    with one_builder(path.parent, f"fetches {item.url}"):
      if not _is_complete(path, item):
        files.remove_leftovers(path.parent)
        copies.make_room(item.size)
        _fetch(item, path)
  return os.fspath(path)


def _is_complete(path: pathlib.Path, item: RemoteObject) -> bool:
  """Whether there is a whole copy, which is then marked as used."""
  try:
    facts = path.stat()
  except OSError:
    return False
  is_whole = stat.S_ISREG(facts.st_mode) and facts.st_size == item.size
  return is_whole and copies.mark_used(path, facts)


def _fetch(item: RemoteObject, path: pathlib.Path) -> None:
  """Writes the content of an object to a file, atomically."""
  temporary = files.temporary_name(path)
  try:
    with _explained(item.url):
      path.parent.mkdir(parents=True, exist_ok=True)
      _store(item.url).get_file(item.url, os.fspath(temporary), callback=_progress(item))
    size = temporary.stat().st_size
    if size != item.size or _ask(item.url) != item:
      with _remembering:
        _asked.pop(item.url, None)
      reason = f"{size} of {item.size} bytes came, or it was replaced meanwhile"
      raise NoAnswer(errno.EIO, reason, item.url)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _ask(url: str) -> RemoteObject | None:
  """An object as it is now; None if there is none."""
  try:
    with _explained(url):
      return _parsed(url, _store(url).info(url))
  except FileNotFoundError:
    _check_bucket(url)
    return None


def _check_bucket(url: str) -> None:
  """Raises RemoteError if the bucket of a URL does not exist."""
  bucket = _bucket(url)
  try:
    with _explained(bucket):
      _store(bucket).info(bucket)
  except FileNotFoundError:
    raise RemoteError(errno.ENOENT, f"there is no bucket {bucket}", url) from None
  except RemoteError:
    pass  # To see a bucket may need more rights than to read from it.


@functools.lru_cache(maxsize=4)  # A large folder takes hundreds of megabytes.
def _listing(folder: str) -> Mapping[str, RemoteObject]:
  """The entries of a folder by URL, in order."""
  with _explained(folder):
    entries = _store(folder).ls(folder, detail=True)
  items = {}
  for entry in sorted(entries, key=_entry_name):
    url = folder.partition("://")[0] + "://" + _entry_name(entry)
    if url != folder:
      items[url] = _parsed(url, entry)
  return items


def _entry_name(entry: Mapping[str, Any]) -> str:
  return entry["name"].rstrip("/")


def _parsed(url: str, entry: Mapping[str, Any]) -> RemoteObject:
  """An entry of fsspec's `info` and `ls`."""
  if entry["type"] == "directory":
    return RemoteObject(url, 0, 0, is_folder=True)
  version = entry.get("generation")
  if version is None:
    digest = hashlib.sha256(str(entry.get("ETag")).encode()).digest()
    version = int.from_bytes(digest[:7], "big")
  return RemoteObject(url, int(entry["size"]), int(version))


def _store(url: str):
  """fsspec's file system of a URL; one a process."""
  import fsspec

  scheme = url.partition("://")[0]
  options: dict[str, Any] = {}
  if scheme == "gs":
    import aiohttp

    options["requests_timeout"] = aiohttp.ClientTimeout(
      total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS
    )
  return fsspec.filesystem(scheme, use_listings_cache=False, **options)


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
  """Turns any error of a client but FileNotFoundError into RemoteError."""
  try:
    files.check_scheme(url)
    yield
  except (FileNotFoundError, RemoteError):
    raise
  except Exception as error:
    raise _explanation(url, error) from error


def _explanation(url: str, error: Exception) -> RemoteError:
  text = " ".join(str(error).split()) or type(error).__name__
  text = text[:200].rstrip(" .")
  if isinstance(error, OSError) and error.errno in _FULL:
    folder = downloads_folder()
    reason = f"no copy can be kept in {folder} ({error.strerror}); set $FILAX_CACHE to another disk"
    return RemoteError(error.errno, reason, url)
  if getattr(error, "code", None) in (401, 403) or isinstance(error, PermissionError):
    return RemoteError(errno.EACCES, f"access is denied ({text}); {_LOG_IN}", url)
  if _DENIED.search(f"{type(error).__name__} {text}"):
    return RemoteError(errno.EACCES, f"access is denied ({text}); {_LOG_IN}", url)
  if isinstance(error, ValueError):  # A missing package.
    return RemoteError(errno.ENOSYS, text, url)
  return NoAnswer(errno.EIO, f"the bucket cannot be read ({text})", url)


def _progress(item: RemoteObject):
  """fsspec's callback that prints a line every two seconds."""
  from fsspec.callbacks import Callback

  class Lines(Callback):
    began = time.monotonic()
    printed = began

    def call(self, hook_name=None, **kwargs):
      now = time.monotonic()
      if now - self.printed > _REPORT_SECONDS:
        self.printed = now
        rate = self.value / (now - self.began) / 1e6
        print(
          f"fetching {item.url}: {self.value / 1e6:.0f} of {item.size / 1e6:.0f} MB, "
          f"{rate:.0f} MB/s",
          file=sys.stderr,
          flush=True,
        )

  return Lines()
