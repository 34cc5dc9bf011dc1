# SPDX-License-Identifier: Apache-2.0
"""Live sessions of several owners: names nobody guesses, a life time, a largest number."""

import pytest

from filax.infer.live_sessions import LiveSessionError, LiveSessions


class Seen:
  """Stands for a session."""

  def __init__(self):
    self.cancelled = False

  def cancel_answer(self):
    self.cancelled = True


class Clock:
  """Seconds that a test moves."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock():
  return Clock()


@pytest.fixture
def sessions(clock):
  return LiveSessions(Seen, limit=2, seconds=60, clock=clock)


def test_a_session_belongs_to_its_owner(sessions):
  name = sessions.start_session("ann")
  assert len(name) >= 22 and name != sessions.start_session("ann")
  seen = sessions.find_session(name, "ann")
  for stranger in (name, "no such name"):
    with pytest.raises(LiveSessionError, match="no such live session") as of_stranger:
      sessions.find_session(stranger, "bob")
    assert "ann" not in str(of_stranger.value)
  with pytest.raises(LiveSessionError):
    sessions.end_session(name, "bob")
  assert sessions.find_session(name, "ann") is seen


def test_one_too_many_is_refused_until_one_ends(sessions):
  names = [sessions.start_session("ann"), sessions.start_session("bob")]
  with pytest.raises(LiveSessionError, match="All 2 live sessions"):
    sessions.start_session("cid")
  seen = sessions.find_session(names[0], "ann")
  sessions.end_session(names[0], "ann")
  assert seen.cancelled
  sessions.start_session("cid")
  assert len(sessions) == 2


def test_a_session_ends_after_its_last_use(sessions, clock):
  name = sessions.start_session("ann")
  clock.now = 59
  sessions.find_session(name, "ann")
  clock.now = 118
  sessions.find_session(name, "ann")
  clock.now = 179
  with pytest.raises(LiveSessionError, match="60 seconds after its last use"):
    sessions.find_session(name, "ann")
  assert len(sessions) == 0
