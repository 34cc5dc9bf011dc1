# SPDX-License-Identifier: Apache-2.0
"""The lease of a workdir, which only one run may write to.

The holder increments a number in workdir/lease.json. Other runs watch that number by their own
monotonic clock, so clocks of different hosts are never compared. A folder may be copied with its
lease: the number of the copy stands still, and on the host of the holder it is recognised at once.
"""

from collections.abc import Callable
import dataclasses
import os
import sys
import threading
import time

from etils import epath

from filax.checkpoint import owner, small_file, storage
from filax.files import is_bucket

FILE_NAME = "lease.json"
STALE_SECONDS = 60.0
_BEATS = 6  # Increments in the time after which a lease is stale.
_LOOK_SECONDS = 0.5


class Held(OSError):
  """Another run holds the workdir."""


class Lost(OSError):
  """This run no longer holds its workdir."""


class Lease:
  """Holds a workdir while in use as a context manager.

  stale_seconds: another run may take over when the number has not changed for this long (default:
  the environment variable FILAX_LEASE_SECONDS, else 60); the holder increments it six times in that
  time. report: called with a sentence before a wait. file_name: of the lease in the workdir. knob:
  the option that names the workdir, for messages.
  """

  def __init__(
    self,
    workdir: epath.PathLike,
    stale_seconds: float | None = None,
    report: Callable[[str], None] | None = None,
    file_name: str = FILE_NAME,
    knob: str = "--workdir",
  ):
    if stale_seconds is None:
      stale_seconds = storage.environment_seconds("FILAX_LEASE_SECONDS", STALE_SECONDS)
    self.workdir = os.fspath(workdir)
    self.stale_seconds = stale_seconds
    self._report = report or _print_error
    self._name = file_name
    self._knob = knob
    self._file = small_file.open_small_file(workdir, file_name)
    place = "" if is_bucket(workdir) else os.path.realpath(workdir)
    self._owner = owner.this_process(stale_seconds, place)
    self._ended = threading.Event()
    self._beating = threading.Lock()  # Held during each write of this run.
    self._thread: threading.Thread | None = None

  @property
  def run(self) -> str:
    """The unique name of this run, which the lease file holds."""
    return self._owner.run

  def __enter__(self):
    """Takes the workdir.

    Raises Held, after at most two stale times, if another run has it.
    """
    self._take()
    self._thread = threading.Thread(target=self._beat_on, name="lease", daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *_):
    """Gives the workdir back, if this run still has it."""
    self._ended.set()
    with self._beating:
      try:
        self._file.swap(self._owner.to_bytes(), None)
      except OSError as error:
        self._report(f"{self.workdir}/{self._name} could not be removed: {error}.")

  def check_held(self) -> None:
    """Raises Lost unless this run still holds the workdir.

    Call it before each write.
    """
    holder = self._read_holder()
    if holder is None or holder.run != self._owner.run:
      reason = f"{holder} took it over" if holder else f"its {self._name} is gone"
      raise Lost(
        f"This run no longer holds the lease of {self.workdir}: {reason} while this process was "
        "stopped or out of reach. The run ends here and writes nothing more."
      )

  def check_before_save(self) -> None:
    """`check_held`, which asks again if the storage does not answer.

    Raises its OSError after the stale time: by then, another run may have taken over.
    """
    deadline = time.monotonic() + self.stale_seconds
    is_reported = False
    while True:
      try:
        return self.check_held()
      except Lost:
        raise
      except OSError as error:
        if time.monotonic() > deadline:
          raise
        if not is_reported:
          is_reported = True
          self._report(
            f"{self.workdir}/{self._name} cannot be read ({error}). Trying again for up to "
            f"{self.stale_seconds:.0f} s."
          )
      time.sleep(min(_LOOK_SECONDS, self.stale_seconds / 20))

  def _read_holder(self) -> owner.Owner | None:
    """The owner in the lease file.

    None if there is no file, or it is unreadable.
    """
    content = self._file.read_content()
    return owner.decode_owner(content) if content is not None else None

  def _take(self) -> None:
    """Waits until the workdir is free or its holder has ended.

    Raises Held if the holder still runs.
    """
    watch = _Watch()
    is_reported = False
    while True:
      content = self._file.read_content()
      if content is None:
        if self._file.swap(None, self._owner.to_bytes()):
          return
        continue
      holder = owner.decode_owner(content)
      stale = max(self.stale_seconds, holder.stale_seconds if holder else 0.0)
      if self._take_over(content, holder, stale, watch):
        return
      if not is_reported:
        is_reported = True
        self._report(
          f"{self.workdir} is held by {_name(holder)}. Watching it for up to {stale:.0f} s: if it "
          "gives no sign, this run takes over."
        )
      time.sleep(min(_LOOK_SECONDS, stale / 20))

  def _take_over(
    self, content: bytes, holder: owner.Owner | None, stale: float, watch: "_Watch"
  ) -> bool:
    """Takes the lease from a holder that has ended.

    Returns False if it must continue waiting. Raises Held if the holder still runs.
    """
    if holder is not None and owner.is_alive(holder) and self._is_file_of(holder):
      raise self._held(str(holder))
    unchanged = watch.seconds_unchanged(content)
    is_dead = holder is not None and owner.is_dead(holder)
    is_copy = holder is not None and self._is_copied_from(holder)
    if is_dead or is_copy or unchanged > stale:
      if self._file.swap(content, self._owner.to_bytes()):
        reason = f"; it is a copy of {holder.path}" if is_copy and holder else ""
        self._report(f"Taking over {self.workdir} from {_name(holder)}{reason}.")
        return True
      if unchanged > 2 * stale:
        raise self._held(f"{_name(holder)}, and cannot be taken over")
    elif watch.changes:
      raise self._held(_name(holder))
    return False

  def _is_file_of(self, holder: owner.Owner) -> bool:
    """Whether a process of this host holds this very file.

    The other case is that it holds the file from which this one was copied.
    """
    if not holder.path:
      return True
    facts = self._facts_of_files(holder)
    return facts is not None and os.path.samestat(*facts)

  def _is_copied_from(self, holder: owner.Owner) -> bool:
    """Whether this file certainly is a copy of the held one.

    It was copied with its folder.

    Files of two devices may still be one, on a network file system that is mounted twice.
    """
    if not holder.path or not owner.is_visible(holder):
      return False
    facts = self._facts_of_files(holder)
    if facts is None:
      return False
    theirs, ours = facts
    return theirs.st_dev == ours.st_dev and theirs.st_ino != ours.st_ino

  def _facts_of_files(self, holder: owner.Owner) -> tuple[os.stat_result, os.stat_result] | None:
    """(facts of the holder's lease file, facts of this one).

    None if one of them is missing.
    """
    try:
      theirs = os.stat(os.path.join(holder.path, self._name))
      return theirs, os.stat(os.path.join(self.workdir, self._name))
    except OSError:
      return None

  def _held(self, by: str) -> Held:
    return Held(
      f"{self.workdir} is in use by {by}. Stop that run, wait for its end, or set another "
      f"{self._knob}."
    )

  def _beat_on(self) -> None:
    """Increments the number until the end, or until the lease is lost."""
    while not self._ended.wait(self.stale_seconds / _BEATS):
      with self._beating:
        if self._ended.is_set():
          return
        next_owner = dataclasses.replace(self._owner, beat=self._owner.beat + 1)
        try:
          if self._file.swap(self._owner.to_bytes(), next_owner.to_bytes()):
            self._owner = next_owner
            continue
          holder = self._read_holder()
        except OSError:
          continue  # The storage is unavailable for now; `check_held` decides.
        if holder is None or holder.run != self._owner.run:
          return
        self._owner = holder  # The previous write succeeded although an error was reported.


def holder_run(workdir: epath.PathLike) -> str:
  """The `run` of the lease in a workdir; "" without one.

  Raises OSError.
  """
  content = small_file.open_small_file(workdir, FILE_NAME).read_content()
  holder = owner.decode_owner(content) if content is not None else None
  return holder.run if holder is not None else ""


class _Watch:
  """Measures how long a content has not changed, by the monotonic clock."""

  def __init__(self):
    self.changes = 0
    self._content: bytes | None = None
    self._since = 0.0

  def seconds_unchanged(self, content: bytes) -> float:
    if content != self._content:
      self.changes += self._content is not None
      self._content = content
      self._since = time.monotonic()
    return time.monotonic() - self._since


def _name(holder: owner.Owner | None) -> str:
  return str(holder or "an unreadable lease")


def _print_error(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
