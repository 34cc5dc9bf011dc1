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
from typing import TypeVar, cast
import uuid

from etils import epath
from etils.epath import backend

from filax import files
from filax.files import check_scheme, is_bucket

_PROBE_BYTES = 1 << 20  # A disk with less space counts as full.
_ANSWER_SECONDS = 15.0  # For the first answer of a bucket: the clients retry for a minute.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_CODE = re.compile(r"os_error_code='(\d+)'")  # In TensorStore's messages.


_answered: set[str] = set()  # The buckets that have answered this process.

Answer = TypeVar("Answer")


class SaveFailed(OSError):
  """A failed write.

  The message names the folder, the reason and a remedy.
  """


def check_name(folder: epath.PathLike) -> None:
  """Raises ValueError for a name that TensorStore could not use."""
  try:
    os.fspath(folder).encode()
  except UnicodeEncodeError:
    raise ValueError(
      f"{os.fspath(folder)!a} cannot be used, because its name is not UTF-8. Rename it, or, "
      "if the locale has another encoding, set PYTHONUTF8=1."
    ) from None


def check_readable(folder: epath.PathLike) -> None:
  """Looks for a folder in its bucket; local folders pass.

  Raises ValueError for an unknown kind of bucket or a missing package, FileNotFoundError, and
  another OSError with one sentence if the bucket cannot be read.
  """
  if not is_bucket(folder):
    return
  check_scheme(folder)
  if not _ask_bucket(folder):
    raise FileNotFoundError(f"There is nothing at {folder}. Look at what is in {_bucket(folder)}.")


def check_reachable(folder: epath.PathLike) -> None:
  """Waits for a bucket's first answer to this process; local folders pass.

  A bucket that has answered once is not asked again. Raises OSError with one sentence if no answer
  comes in time.
  """
  if is_bucket(folder) and _bucket(folder) not in _answered:
    _ask_bucket(folder)


def _ask_bucket(folder: epath.PathLike) -> bool:
  """Whether there is something at an address. Raises OSError."""
  seconds = environment_seconds("FILAX_BUCKET_SECONDS", _ANSWER_SECONDS)
  try:
    present = _answer_in_time(lambda: epath.Path(folder).exists(), seconds)
  except Exception as error:  # The clients' own kinds.
    raise OSError(
      f"{folder} cannot be read: {reason(error)}. Look at the network, log in (gcloud auth "
      "application-default login; aws configure), or use a folder of this machine."
    ) from error
  _answered.add(_bucket(folder))
  return present


def _bucket(folder: epath.PathLike) -> str:
  """The address of a folder's bucket: gs://NAME."""
  return "/".join(str(folder).split("/")[:3])


def _answer_in_time(ask: Callable[[], Answer], seconds: float) -> Answer:
  """The result of `ask`, which may retry for longer than one waits.

  Raises its exceptions, and TimeoutError after `seconds`.
  """
  answers: queue.Queue[tuple[Answer | None, Exception | None]] = queue.Queue()

  def put_answer():
    try:
      answers.put((ask(), None))
    except Exception as error:
      answers.put((None, error))

  threading.Thread(target=put_answer, daemon=True, name="filax_bucket").start()
  try:
    answer, error = answers.get(timeout=seconds)
  except queue.Empty:
    raise _no_answer(seconds) from None
  if error is not None:
    raise error
  return cast(Answer, answer)


def _no_answer(seconds: float) -> TimeoutError:
  words = f"no answer in {seconds:g} s of tries (FILAX_BUCKET_SECONDS waits longer)"
  return TimeoutError(errno.ETIMEDOUT, words)


def environment_seconds(name: str, default: float) -> float:
  """Seconds from an environment variable. Raises ValueError."""
  text = os.environ.get(name, "")
  try:
    seconds = float(text or default)
  except ValueError:
    seconds = 0.0
  if not 0 < seconds <= threading.TIMEOUT_MAX:
    raise ValueError(f"{name}={text} cannot be used. Set it to a number above 0, or unset it.")
  return seconds


def forget_listings(path: epath.PathLike) -> None:
  """Drops the cached listings of a bucket.

  After a write, gcsfs may list only the written file.
  """
  if is_bucket(path):
    backend.fsspec_backend.fs(str(path)).invalidate_cache()


def check_writable(folder: epath.PathLike) -> None:
  """Writes and removes a file in `folder`.

  The folder is created if it is missing. Raises ValueError for an unknown kind of bucket, a missing
  package or a name that is not UTF-8, SaveFailed otherwise: no permission, a file in the way, a
  full disk, no such bucket, no credentials.
  """
  check_name(folder)
  check_scheme(folder)
  seconds = environment_seconds("FILAX_BUCKET_SECONDS", _ANSWER_SECONDS)
  name = f"write-test.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
  with explained(lambda: f"--workdir {folder} cannot be written", folder):
    if is_bucket(folder):
      _try_bucket(str(folder).rstrip("/"), name, seconds)
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
    name = os.fsdecode(error.filename or folder)
    remedy = _advice(error, folder)
    if not _is_below(name, folder):
      remedy = "Free space there; the same command goes on."
    raise SaveFailed(f"{name} cannot be written: {reason(error)}. {remedy}") from error


def _is_below(name: str, folder: epath.PathLike) -> bool:
  """Whether a path is a folder, or is in it."""
  place = os.path.abspath(os.path.expanduser(folder))
  return name == os.fspath(folder) or os.path.commonpath([os.path.abspath(name), place]) == place


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


def error_number(error: BaseException) -> int:
  """The errno of an exception; 0 if it has none.

  TensorStore has it in its message.
  """
  match = _CODE.search(str(error))
  if match is not None:
    return int(match[1])
  return (error.errno or 0) if isinstance(error, OSError) else 0


def reason(error: BaseException) -> str:
  """The reason of a failed write, in a few words."""
  if _CODE.search(str(error)) is not None:
    return os.strerror(error_number(error))
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


def _try_bucket(folder: str, name: str, seconds: float) -> None:
  """Writes with both libraries, epath and TensorStore.

  They look for credentials and endpoints in different places. seconds: for each answer.
  """
  import tensorstore as ts

  path = epath.Path(folder) / name

  def write_and_remove():
    path.write_bytes(b"filax")
    path.unlink()

  try:
    _answer_in_time(write_and_remove, seconds)
  except FileNotFoundError as error:
    raise FileNotFoundError(errno.ENOENT, "there is no such bucket") from error
  try:
    store = ts.KvStore.open(f"{folder}/").result(timeout=seconds)
    store.write(name, b"filax").result(timeout=seconds)
    store.write(name, None).result(timeout=seconds)  # Removes only this key.
  except TimeoutError as error:
    raise _no_answer(seconds) from error
