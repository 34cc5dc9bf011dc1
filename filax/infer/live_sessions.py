# SPDX-License-Identifier: Apache-2.0
"""Live sessions of several owners: random names, a life time, a largest number."""

from collections.abc import Callable
import dataclasses
import secrets
import threading
import time

from filax.infer.live import LiveSession


class LiveSessionError(ValueError):
  """A session that is not there, or one too many."""


class TooManySessions(LiveSessionError):
  """As many sessions as may be are alive."""


@dataclasses.dataclass(eq=False)
class _Entry:
  """A session with its owner and the time of its last use."""

  session: LiveSession
  owner: str
  used: float


class LiveSessions:
  """Holds live sessions between the requests of their owners.

  `make` starts one: its cache is allocated then. A session ends `seconds` after its last use, and
  at most `limit` live at a time, so that memory is bounded by `limit` caches. A name is 128 random
  bits. For an owner, sessions of other owners do not exist. May be used from several threads.
  `clock` gives seconds.
  """

  def __init__(
    self,
    make: Callable[[], LiveSession],
    limit: int = 4,
    seconds: float = 900.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._make = make
    self._limit = limit
    self._seconds = seconds
    self._clock = clock
    self._lock = threading.Lock()
    self._entries: dict[str, _Entry] = {}

  def __len__(self) -> int:
    with self._lock:
      self._end_idle()
      return len(self._entries)

  def end_idle_sessions(self) -> None:
    """Ends sessions beyond their life time, and frees their caches."""
    with self._lock:
      self._end_idle()

  def start_session(self, owner: str) -> str:
    """Starts a session and returns its name.

    Raises TooManySessions if as many as may be are alive.
    """
    with self._lock:
      self._end_idle()
      if len(self._entries) >= self._limit:
        raise TooManySessions(
          f"All {self._limit} live sessions are in use. End one, or try again later: one ends "
          f"{self._seconds:g} seconds after its last use."
        )
      name = secrets.token_urlsafe(16)
      self._entries[name] = _Entry(self._make(), owner, self._clock())
      return name

  def find_session(self, name: str, owner: str) -> LiveSession:
    """A session of an owner; it is used now.

    Raises LiveSessionError if there is none.
    """
    with self._lock:
      self._end_idle()
      entry = self._entry(name, owner)
      entry.used = self._clock()
      return entry.session

  def end_session(self, name: str, owner: str) -> None:
    """Ends a session and frees its cache.

    Raises LiveSessionError if there is none.
    """
    with self._lock:
      self._end_idle()
      self._entry(name, owner).session.cancel_answer()
      del self._entries[name]

  def _entry(self, name: str, owner: str) -> _Entry:
    entry = self._entries.get(name)
    if entry is None or entry.owner != owner:
      raise LiveSessionError(
        "There is no such live session. It may have ended: one ends "
        f"{self._seconds:g} seconds after its last use."
      )
    return entry

  def _end_idle(self) -> None:
    """Ends the sessions that nobody has used for too long."""
    oldest = self._clock() - self._seconds
    for name, entry in list(self._entries.items()):
      if entry.used < oldest:
        del self._entries[name]
