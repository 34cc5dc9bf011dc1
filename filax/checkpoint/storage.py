# SPDX-License-Identifier: Apache-2.0
"""Folders and buckets of checkpoints: a write test at the start, errors in one sentence."""

from collections.abc import Callable, Iterator
import contextlib
import errno
import importlib.util
import logging
import os
import queue
import re
import socket
import sys
import threading
import uuid

from etils import epath
from etils.epath import backend

_SCHEMES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}  # scheme -> (package, extra)
_PROBE_BYTES = 1 << 20  # A disk that has not even this is full.
_PROBE_SECONDS = 20.0  # Both libraries try for minutes by themselves.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_CODE = re.compile(r"os_error_code='(\d+)'")  # In what TensorStore says.


class SaveFailed(OSError):
  """Something could not be written; the message says what, why and what helps."""


def is_bucket(path: epath.PathLike) -> bool:
  """Whether a path is that of an object store: gs://, s3://."""
  return "://" in str(path)


def check_scheme(path: epath.PathLike) -> None:
  """Raises ValueError if a bucket is of a kind that is unknown, or whose package is missing."""
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
  logging.getLogger(package).setLevel(logging.CRITICAL)  # Its errors come as exceptions, too.


def forget_listings(path: epath.PathLike) -> None:
  """Drops the cached listings of a bucket: after a write, gcsfs may list that file alone."""
  if is_bucket(path):
    backend.fsspec_backend.fs(str(path)).invalidate_cache()


def check_writable(folder: epath.PathLike) -> None:
  """Writes and removes a file in `folder`, which is made if it is missing.

  Raises ValueError for an unknown kind of bucket or a missing package, SaveFailed otherwise: no
  permission, a file in the way, a full disk, no such bucket, no credentials.
  """
  check_scheme(folder)
  name = f"write-test.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
  with explained(lambda: f"--workdir {folder} cannot be written", folder):
    if is_bucket(folder):
      _try_bucket(str(folder).rstrip("/"), name)
    else:
      path = epath.Path(os.path.abspath(os.path.expanduser(folder)))
      path.mkdir(parents=True, exist_ok=True)
      _try_file(str(path / name))


@contextlib.contextmanager
def explained(
  failure: Callable[[], str], folder: epath.PathLike, advice: str = ""
) -> Iterator[None]:
  """Turns any exception of a failed write into SaveFailed with one sentence.

  `advice`: what helps where a bucket fails; by default what helps before it was ever written.
  """
  try:
    yield
  except SaveFailed:
    raise
  except Exception as error:
    raise SaveFailed(f"{failure()}: {reason(error)}. {_advice(error, folder, advice)}") from error


@contextlib.contextmanager
def full_disk_explained(folder: epath.PathLike) -> Iterator[None]:
  """Turns the OSError of a full disk into SaveFailed; others pass."""
  try:
    yield
  except SaveFailed:
    raise
  except OSError as error:
    if error.errno not in _FULL:
      raise
    name = error.filename or folder
    text = f"{name} cannot be written: {reason(error)}. {_advice(error, folder)}"
    raise SaveFailed(text) from error


def quiet_background_writes() -> None:
  """Prints no traceback of a write in the background whose failure ends the run in a sentence.

  Orbax closes the event loop of a save at the first error. TensorStore prints a traceback for every
  write that is still on its way then, and asyncio logs a second error that nobody waits for.
  TensorBoard's thread ends where a disk is full.
  """
  unraisable_before = sys.unraisablehook
  thread_before = threading.excepthook

  def unraisable_hook(unraisable):
    kind = unraisable.exc_type
    if kind is not RuntimeError or str(unraisable.exc_value) != "Event loop is closed":
      unraisable_before(unraisable)

  def thread_hook(thread):
    error = thread.exc_value
    if not isinstance(error, OSError) or error.errno not in _FULL:
      thread_before(thread)

  sys.unraisablehook = unraisable_hook
  threading.excepthook = thread_hook
  logging.getLogger("asyncio").addFilter(_is_no_failed_write)


def reason(error: BaseException) -> str:
  """Why something could not be written, in a few words."""
  match = _CODE.search(str(error))
  if match is not None:
    return os.strerror(int(match[1]))
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = " ".join(str(error).split()) or type(error).__name__
  return text[:200].rstrip(" .")


def _is_no_failed_write(entry: logging.LogRecord) -> bool:
  """Whether an entry of asyncio's log is about anything but a second failed write."""
  error = entry.exc_info[1] if entry.exc_info else None
  return "never retrieved" not in entry.getMessage() or "Error writing" not in str(error)


def _advice(error: BaseException, folder: epath.PathLike, bucket: str = "") -> str:
  if is_bucket(folder):
    return bucket or (
      "Make the bucket, log in (gcloud auth application-default login; aws configure), or set "
      "--workdir to another one."
    )
  if "space" in reason(error).lower() or "quota" in reason(error).lower():
    return "Free space, or set --workdir to another disk; the same command goes on from there."
  return "Set --workdir to a folder that can be written."


def _try_file(path: str) -> None:
  try:
    with open(path, "xb") as file:
      file.write(bytes(_PROBE_BYTES))
      file.flush()
      os.fsync(file.fileno())
  finally:
    with contextlib.suppress(OSError):
      os.unlink(path)


def _try_bucket(folder: str, name: str) -> None:
  """Writes with both libraries: they look for credentials and endpoints in different places."""
  import tensorstore as ts

  path = epath.Path(folder) / name
  answers: queue.Queue[BaseException | None] = queue.Queue()

  def try_write():
    try:
      path.write_bytes(b"filax")
      path.unlink()
      answers.put(None)
    except Exception as error:
      answers.put(error)

  threading.Thread(target=try_write, daemon=True, name="filax_write_test").start()
  try:
    error = answers.get(timeout=_PROBE_SECONDS)
    if isinstance(error, FileNotFoundError):
      raise FileNotFoundError(errno.ENOENT, "there is no such bucket")
    if error is not None:
      raise error
    store = ts.KvStore.open(f"{folder}/").result(timeout=_PROBE_SECONDS)
    store.write(name, b"filax").result(timeout=_PROBE_SECONDS)
    store.write(name, None).result(timeout=_PROBE_SECONDS)  # Removes this key and no other.
  except (queue.Empty, TimeoutError) as error:
    raise TimeoutError(errno.ETIMEDOUT, f"no answer in {_PROBE_SECONDS:.0f} s") from error
