# SPDX-License-Identifier: Apache-2.0
"""The local side of a workdir that is a bucket.

Files that are written line by line are kept on this machine and copied to the bucket as a whole.
"""

from collections.abc import Callable
import hashlib
import pathlib
import sys
import threading
import time

from etils import epath

from filax import files, user_cache
from filax.checkpoint import storage
from filax.checkpoint.lease import Lost
from filax.files import is_bucket

QUARANTINE = "quarantine.jsonl"  # Of a bucket, each host keeps its own in its local folder.

_PAUSE_SECONDS = 2.0  # Google allows one change of an object a second.
_LONGEST_PAUSE_SECONDS = 60.0
_PAUSE_SHARE = 20  # Pauses after a copy, in times of the copy: metrics.jsonl grows.
_RETRY_SECONDS = 15.0
_LAST_SECONDS = 60.0


def local_folder(workdir: epath.PathLike) -> pathlib.Path:
  """The local folder of a workdir; it is created.

  The workdir itself; for gs:// or s3://, a folder of its own in the user's cache.
  """
  path = pathlib.Path(str(workdir))
  if is_bucket(workdir):
    url = str(workdir).rstrip("/")
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    path = user_cache.cache_folder(name)
  path.mkdir(parents=True, exist_ok=True)
  return path


def fetch_file(workdir: epath.PathLike, name: str, grows: bool = False) -> pathlib.Path:
  """The local path of a file of the workdir.

  If the workdir is a bucket, the file is copied from there first. grows: of a file that only grows,
  the local one stays if it has all of the bucket's and more. Raises OSError.
  """
  path = local_folder(workdir) / name
  if not is_bucket(workdir):
    return path
  remote = epath.Path(workdir) / name
  try:
    content = remote.read_bytes() if remote.exists() else None
  except Exception as error:  # The clients' own kinds.
    raise OSError(f"{remote} cannot be read: {storage.reason(error)}") from error
  if content is None:
    path.unlink(missing_ok=True)
  elif not (grows and path.exists() and path.read_bytes().startswith(content)):
    with files.write_atomically(path) as file:  # Other processes of this host fetch it, too.
      file.write(content)
  return path


def publish_file(workdir: epath.PathLike, path: pathlib.Path) -> None:
  """Copies a local file into the workdir, if that is a bucket."""
  if is_bucket(workdir):
    remote = epath.Path(workdir) / path.name
    remote.write_bytes(path.read_bytes())


class Publisher:
  """Copies files of this machine to a bucket, in the background.

  The bucket is the workdir of the run.

  No step waits for the network. If it fails, that is printed, and the files are copied later. Files
  of a local workdir are where they belong. Use as a context manager.
  """

  def __init__(self, workdir: epath.PathLike, check: Callable[[], None] = lambda: None):
    """A publisher that has not started yet.

    check: raises lease.Lost if nothing may be written any more, OSError without network.
    """
    self._workdir = workdir
    self._check = check
    self._due: dict[str, pathlib.Path] = {}  # By name.
    self._lock = threading.Lock()
    self._work = threading.Event()
    self._ended = threading.Event()
    self._hurry = threading.Event()  # Ends a pause.
    self._lost: Lost | None = None
    self._is_failing = False
    self._thread: threading.Thread | None = None

  def __enter__(self):
    if is_bucket(self._workdir):
      self._thread = threading.Thread(target=self._serve, name="publisher", daemon=True)
      self._thread.start()
    return self

  def __exit__(self, *_):
    """Waits for the last copies, for at most a minute."""
    self._ended.set()
    self._work.set()
    self._hurry.set()
    if self._thread is not None:
      self._thread.join(_LAST_SECONDS)
    for path in self._due.values():
      _say(f"{path} is newer than its copy in {self._workdir}, which could not be written.")

  def check(self) -> None:
    """Raises lease.Lost if the run no longer holds the workdir.

    It tells what is known, and asks nobody.

    Raises OSError if a local workdir does not answer.
    """
    if self._lost is not None:
      raise self._lost
    if not is_bucket(self._workdir):
      self._check()

  def publish(self, path: pathlib.Path) -> None:
    """Has a file copied as it then is."""
    if is_bucket(self._workdir):
      with self._lock:
        self._due[path.name] = path
      self._work.set()

  def hurry(self) -> None:
    """Has all that is due copied without a pause.

    For what belongs to a checkpoint or to an evaluation: a run that is killed after it goes on from
    there.
    """
    self._hurry.set()

  def _serve(self) -> None:
    while True:
      self._work.wait()
      self._work.clear()
      is_last = self._ended.is_set()
      began = time.monotonic()
      self._copy_due()
      pause = pause_after_copy(time.monotonic() - began)
      if is_last or self._lost is not None:
        return
      if self._is_failing:
        self._work.set()
      if self._hurry.wait(_RETRY_SECONDS if self._is_failing else pause):
        self._hurry.clear()

  def _copy_due(self) -> None:
    with self._lock:
      due = dict(self._due)
      self._due.clear()
    try:
      for path in due.values():
        self._check()
        publish_file(self._workdir, path)
    except Lost as error:
      self._lost = error
    except Exception as error:  # The clients' own kinds.
      with self._lock:
        self._due = due | self._due
      self._note(storage.reason(error))
    else:
      self._note("")

  def _note(self, failure: str) -> None:
    """Says when copies begin to fail, and when they work again."""
    if failure and not self._is_failing:
      _say(
        f"{self._workdir} cannot be written, training goes on: {failure}. What is logged is kept "
        f"in {local_folder(self._workdir)} and copied later."
      )
    elif self._is_failing and not failure:
      _say(f"{self._workdir} can be written again.")
    self._is_failing = bool(failure)


def pause_after_copy(seconds: float) -> float:
  """Seconds until the next copy, after one that took `seconds`."""
  return min(max(_PAUSE_SECONDS, _PAUSE_SHARE * seconds), _LONGEST_PAUSE_SECONDS)


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
