# SPDX-License-Identifier: Apache-2.0
"""Folders and buckets of checkpoints.

They are tested by a write at the start; errors are explained in one sentence.
"""

from collections.abc import Callable, Iterator
import contextlib
import errno
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

from filax import files
from filax.files import check_scheme, is_bucket

_PROBE_BYTES = 1 << 20  # A disk with less space counts as full.
_PROBE_SECONDS = 20.0  # Both libraries retry for minutes by default.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_CODE = re.compile(r"os_error_code='(\d+)'")  # In TensorStore's messages.


class SaveFailed(OSError):
  """A failed write.

  The message names the folder, the reason and a remedy.
  """


def check_readable(folder: epath.PathLike) -> None:
  """Looks for a folder in its bucket; local folders pass.

  Raises ValueError for an unknown kind of bucket or a missing package, FileNotFoundError, and
  another OSError with one sentence if the bucket cannot be read.
  """
  if not is_bucket(folder):
    return
  check_scheme(folder)
  try:
    present = epath.Path(folder).exists()
  except Exception as error:  # The clients' own kinds.
    raise OSError(
      f"{folder} cannot be read: {reason(error)}. Log in (gcloud auth application-default login; "
      "aws configure), or copy the folder to this machine."
    ) from error
  if not present:
    bucket = "/".join(str(folder).split("/")[:3])
    raise FileNotFoundError(f"There is nothing at {folder}. Look at what is in {bucket}.")


def forget_listings(path: epath.PathLike) -> None:
  """Drops the cached listings of a bucket.

  After a write, gcsfs may list only the written file.
  """
  if is_bucket(path):
    backend.fsspec_backend.fs(str(path)).invalidate_cache()


def check_writable(folder: epath.PathLike) -> None:
  """Writes and removes a file in `folder`.

  The folder is created if it is missing. Raises ValueError for an unknown kind of bucket or a
  missing package, SaveFailed otherwise: no permission, a file in the way, a full disk, no such
  bucket, no credentials.
  """
  check_scheme(folder)
  name = f"write-test.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
  with explained(lambda: f"--workdir {folder} cannot be written", folder):
    if is_bucket(folder):
      _try_bucket(str(folder).rstrip("/"), name)
    else:
      path = epath.Path(os.path.abspath(os.path.expanduser(folder)))
      _make_folder(path)
      _try_file(str(path / name))


def _make_folder(path: epath.Path) -> None:
  """Makes a folder. Raises OSError that says what is in its way."""
  try:
    path.mkdir(parents=True, exist_ok=True)
  except FileExistsError:
    obstacle = "it is a file"
    if os.path.islink(path) and not path.exists():
      obstacle = f"it is a link to {os.readlink(path)}, which is not there"
    raise FileExistsError(errno.EEXIST, obstacle) from None


def write_whole(path: epath.Path, content: bytes) -> None:
  """Writes a file that is never seen in part.

  The objects of a bucket appear whole by themselves. Raises OSError.
  """
  if is_bucket(path):
    path.write_bytes(content)
    return
  with files.write_atomically(path) as file:
    file.write(content)


@contextlib.contextmanager
def explained(
  failure: Callable[[], str], folder: epath.PathLike, advice: str = ""
) -> Iterator[None]:
  """Turns any exception of a failed write into SaveFailed with one sentence.

  advice: the remedy for a bucket; default: that for a bucket that was never written to.
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
  """Suppresses tracebacks of failed background writes.

  The run then ends with a sentence instead. Orbax closes the event loop of a save at the first
  error. TensorStore then prints a traceback for every write that is still in flight, and asyncio
  logs a second error that nobody awaits. TensorBoard's thread ends when a disk is full.
  """
  unraisable_before = sys.unraisablehook
  thread_before = threading.excepthook

  def unraisable_hook(unraisable):
    kind = unraisable.exc_type
    if kind is not RuntimeError or str(unraisable.exc_value) != "Event loop is closed":
      unraisable_before(unraisable)

  def thread_hook(thread):
    error = thread.exc_value
    if isinstance(error, SaveFailed):  # Told by the thread that waits for the save.
      return
    if not isinstance(error, OSError) or error.errno not in _FULL:
      thread_before(thread)

  sys.unraisablehook = unraisable_hook
  threading.excepthook = thread_hook
  logging.getLogger("asyncio").addFilter(_is_no_failed_write)


def reason(error: BaseException) -> str:
  """The reason of a failed write, in a few words."""
  match = _CODE.search(str(error))
  if match is not None:
    return os.strerror(int(match[1]))
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = " ".join(str(error).split()) or type(error).__name__
  return text[:200].rstrip(" .")


def _is_no_failed_write(entry: logging.LogRecord) -> bool:
  """A filter of asyncio's log that drops second errors of writes."""
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
  """Writes with both libraries, epath and TensorStore.

  They look for credentials and endpoints in different places.
  """
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
    store.write(name, None).result(timeout=_PROBE_SECONDS)  # Removes only this key.
  except (queue.Empty, TimeoutError) as error:
    raise TimeoutError(errno.ETIMEDOUT, f"no answer in {_PROBE_SECONDS:.0f} s") from error
