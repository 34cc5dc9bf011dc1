# SPDX-License-Identifier: Apache-2.0
"""One owner a workdir: in threads, in processes, stopped, killed, and with wrong clocks."""

import concurrent.futures
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from filax import files
from filax.checkpoint import lease, owner, small_file
from filax.checkpoint.lease import Held, Lease, Lost

ROOT = pathlib.Path(__file__).parents[2]
STALE = 0.6
HOLDER = """
import sys, time
from filax.checkpoint.lease import Lease
with Lease(sys.argv[1], float(sys.argv[2])) as lease:
  print("held", flush=True)
  for _ in sys.stdin:
    try:
      lease.check_held()
      print("ours", flush=True)
    except OSError as error:
      print(error, flush=True)
"""


class Holder:
  """A process that holds a workdir."""

  def __init__(self, workdir, stale=STALE):
    self.process = subprocess.Popen(
      [sys.executable, "-c", HOLDER, str(workdir), str(stale)],
      text=True,
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
    )
    assert self.process.stdout.readline() == "held\n"

  def check(self):
    self.process.stdin.write("check\n")
    self.process.stdin.flush()
    return self.process.stdout.readline().strip()

  def stop(self):
    os.kill(self.process.pid, signal.SIGSTOP)
    os.waitpid(self.process.pid, os.WUNTRACED)  # Until it has stopped.

  def end(self):
    self.process.kill()
    self.process.communicate()


@pytest.fixture
def holder(tmp_path):
  process = Holder(tmp_path)
  yield process
  process.end()


def record(workdir):
  return owner.decode_owner((workdir / lease.FILE_NAME).read_bytes())


def foreign(workdir, **changes):
  """Writes the lease of a process of another host."""
  values = dict(host="elsewhere", boot="another boot", pid=1, stale_seconds=STALE)
  other = dataclasses.replace(owner.this_process(STALE), **(values | changes))
  with files.write_atomically(workdir / lease.FILE_NAME) as file:  # Somebody may be reading it.
    file.write(other.to_bytes())
  return other


def test_held_and_given_back(tmp_path):
  with Lease(tmp_path / "new" / "run", STALE) as held:
    held.check_held()
    found = record(tmp_path / "new" / "run")
    assert found.pid == os.getpid() and found.since.endswith("UTC")
  assert list((tmp_path / "new" / "run").iterdir()) == []


def test_a_second_start_is_refused_in_one_sentence(tmp_path, holder):
  before = time.monotonic()
  with pytest.raises(Held, match=rf"process {holder.process.pid} on host .*, since 20.*--workdir"):
    Lease(tmp_path, STALE).__enter__()
  assert time.monotonic() - before < 30
  assert holder.check() == "ours"


def test_it_is_held_for_longer_than_a_stale_time(tmp_path):
  with Lease(tmp_path, STALE) as held:
    time.sleep(2 * STALE)
    held.check_held()
    assert record(tmp_path).beat > 3


def test_a_killed_holder_is_followed_at_once(tmp_path, holder):
  holder.process.send_signal(signal.SIGKILL)  # Nobody has asked for its exit code yet.
  holder.process.stdout.read()
  with Lease(tmp_path, 1e6) as held:  # Waiting for signs of life would take for ever.
    held.check_held()


def test_a_copy_of_a_folder_in_use_is_free(tmp_path):
  """The run in the copy starts at once, and the one in the original goes on."""
  holder = Holder(tmp_path / "run")
  try:
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    reports = []
    with Lease(tmp_path / "copy", 1e6, reports.append) as held:
      held.check_held()
      assert holder.check() == "ours"
    (sentence,) = reports
    assert sentence.endswith(f"it is a copy of {tmp_path / 'run'}.")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(Held):
      Lease(tmp_path / "link", STALE).__enter__()
  finally:
    holder.end()


def test_a_copy_from_a_folder_that_is_out_of_sight_is_watched(tmp_path):
  """Its holder runs on this host: this very process."""
  gone = owner.this_process(STALE, str(tmp_path / "gone"))
  (tmp_path / lease.FILE_NAME).write_bytes(gone.to_bytes())
  with Lease(tmp_path, STALE) as held:
    held.check_held()


def test_a_lease_of_an_earlier_version_is_read(tmp_path):
  values = json.loads(owner.this_process(STALE).to_bytes())
  del values["path"]
  (tmp_path / lease.FILE_NAME).write_text(json.dumps(values))
  with pytest.raises(Held):
    Lease(tmp_path, STALE).__enter__()


def test_a_reused_process_number_is_not_the_holder(tmp_path):
  other = dataclasses.replace(owner.this_process(1e6), started="1")
  (tmp_path / lease.FILE_NAME).write_bytes(other.to_bytes())
  with Lease(tmp_path, STALE) as held:
    held.check_held()


@pytest.mark.parametrize(
  "changes",
  [dict(boot="another boot"), dict(namespace="another container"), dict(boot="", started="")],
)
def test_a_dead_number_of_another_host_proves_nothing(tmp_path, changes):
  """It beats, so it is held, though this host has no such process, under the same host name."""
  dead = subprocess.Popen(["true"])
  dead.wait()
  here = owner.this_process(STALE)
  values = dict(boot=here.boot, host=here.host, pid=dead.pid) | changes
  foreign(tmp_path, **values)
  ended = threading.Event()

  def beat():
    number = 0
    while not ended.wait(0.05):
      number += 1
      foreign(tmp_path, run="same", beat=number, **values)

  thread = threading.Thread(target=beat)
  thread.start()
  try:
    with pytest.raises(Held, match=rf"process {dead.pid} on host"):
      Lease(tmp_path, 30.0).__enter__()  # Sooner, at its first beat.
  finally:
    ended.set()
    thread.join()


def test_a_host_that_is_gone_is_followed(tmp_path):
  foreign(tmp_path)
  reports = []
  began = time.monotonic()
  with Lease(tmp_path, STALE, reports.append) as held:
    assert time.monotonic() - began >= STALE
    held.check_held()
  assert "elsewhere" in reports[0] and "takes over" in reports[0] and "Taking over" in reports[1]


def test_a_holder_has_its_own_time_to_give_a_sign(tmp_path):
  foreign(tmp_path, stale_seconds=1.0)
  began = time.monotonic()
  with Lease(tmp_path, 0.1):
    assert time.monotonic() - began >= 1.0


def test_a_lease_that_cannot_be_changed_is_no_endless_wait(tmp_path, monkeypatch):
  foreign(tmp_path, stale_seconds=0.1)
  monkeypatch.setattr(small_file.LocalFile, "swap", lambda self, before, after: False)
  with pytest.raises(Held, match="cannot be taken over"):
    Lease(tmp_path, 0.1).__enter__()


@pytest.mark.parametrize(("devices", "is_copy"), [((7, 7), True), ((7, 8), False)])
def test_files_of_two_devices_may_be_one(tmp_path, monkeypatch, devices, is_copy):
  """A network file system that is mounted twice shows one file under two numbers."""
  theirs, ours = (types.SimpleNamespace(st_dev=device, st_ino=device) for device in devices)
  ours.st_ino = 9
  new = Lease(tmp_path, STALE)
  monkeypatch.setattr(new, "_facts_of_files", lambda holder: (theirs, ours))
  assert new._is_copied_from(owner.this_process(STALE, "/elsewhere/run")) == is_copy


@pytest.mark.parametrize("offset", [-600.0, 600.0])
def test_clocks_that_are_wrong_change_nothing(tmp_path, monkeypatch, offset):
  """Neither a holder's clock nor ours is used: a live holder stays, a silent one is followed."""
  now = time.time
  monkeypatch.setattr(time, "time", lambda: now() + offset)
  utc = time.gmtime
  monkeypatch.setattr(
    time, "gmtime", lambda seconds=None: utc(now() + offset if seconds is None else seconds)
  )
  with Lease(tmp_path, STALE) as held:
    path = tmp_path / lease.FILE_NAME
    os.utime(path, (now() - offset, now() - offset))
    with pytest.raises(Held):
      Lease(tmp_path, STALE).__enter__()
    held.check_held()
  foreign(tmp_path)
  os.utime(path, (now() + offset, now() + offset))
  began = time.monotonic()
  with Lease(tmp_path, STALE):
    assert time.monotonic() - began >= STALE


def test_a_stopped_holder_loses_it_and_knows(tmp_path, holder):
  holder.stop()
  with Lease(tmp_path, STALE) as held:
    holder.process.send_signal(signal.SIGCONT)
    said = holder.check()
    assert "no longer holds" in said and f"process {os.getpid()}" in said
    time.sleep(STALE)  # Its heartbeat does not disturb the new holder, nor does its end.
    held.check_held()
    holder.process.communicate()
    held.check_held()
  assert "no longer holds" in said and not (tmp_path / lease.FILE_NAME).exists()


def test_a_holder_whose_successor_has_finished_knows_too(tmp_path, holder):
  holder.stop()
  with Lease(tmp_path, STALE):
    pass
  holder.process.send_signal(signal.SIGCONT)
  assert "its lease.json is gone" in holder.check()


def test_of_twenty_starts_one_wins(tmp_path):
  assert sum(_race(tmp_path)) == 1


def test_of_twenty_that_wait_for_a_lost_host_one_wins(tmp_path):
  foreign(tmp_path)
  assert sum(_race(tmp_path)) == 1


def _race(workdir):
  """Whether each of twenty threads got the workdir; each keeps it until all have tried."""
  starts = threading.Barrier(20)
  ends = threading.Barrier(20)

  def start():
    starts.wait()
    try:
      with Lease(workdir, STALE, lambda text: None):
        ends.wait(60)
      return True
    except Held:
      ends.wait(60)
      return False

  with concurrent.futures.ThreadPoolExecutor(20) as pool:
    return [future.result() for future in [pool.submit(start) for _ in range(20)]]


@pytest.mark.parametrize(
  "content", [b"", b"{", b"\xff" * 9, b"[]", b"{}", b'{"run": 1}', b"[" * 100_000]
)
def test_an_unreadable_lease_is_watched_like_any_other(tmp_path, content):
  (tmp_path / lease.FILE_NAME).write_bytes(content)
  with Lease(tmp_path, STALE) as held:
    held.check_held()


def test_a_write_that_succeeded_in_spite_of_its_error_is_followed_up(tmp_path, monkeypatch):
  with Lease(tmp_path, STALE) as held:
    swap = held._file.swap
    errors = [OSError("no answer in time")]

    def unsure_swap(before, after):
      changed = swap(before, after)
      if errors:
        raise errors.pop()
      return changed

    monkeypatch.setattr(held._file, "swap", unsure_swap)
    time.sleep(STALE)
    beat = record(tmp_path).beat
    time.sleep(STALE / 2)
    assert not errors
    assert record(tmp_path).beat > beat


def test_a_lease_is_given_back_after_the_write_that_runs(tmp_path, monkeypatch):
  is_writing = threading.Event()
  with Lease(tmp_path, STALE) as held:
    swap = held._file.swap

    def slow_swap(before, after):
      changed = swap(before, after)
      if after is not None:
        is_writing.set()
        time.sleep(0.2)
      return changed

    monkeypatch.setattr(held._file, "swap", slow_swap)
    assert is_writing.wait(10)
  assert not (tmp_path / lease.FILE_NAME).exists()


def test_a_lease_that_was_removed_is_lost(tmp_path):
  with Lease(tmp_path, STALE) as held:
    (tmp_path / lease.FILE_NAME).unlink()
    with pytest.raises(Lost, match=r"lease\.json is gone"):
      held.check_held()


def test_a_save_asks_again_if_the_storage_does_not_answer(tmp_path):
  workdir = tmp_path / "run"
  away = tmp_path / "away"
  told = []
  with Lease(workdir, STALE, told.append) as ours:
    workdir.rename(away)
    workdir.touch()  # Every access fails: it is not a folder.
    with pytest.raises(NotADirectoryError):
      ours.check_held()

    def answer_again():
      workdir.unlink()
      away.rename(workdir)

    timer = threading.Timer(STALE / 3, answer_again)
    timer.start()
    ours.check_before_save()
    timer.join()
    ours.check_held()
    workdir.rename(away)
    workdir.touch()
    with pytest.raises(NotADirectoryError):
      ours.check_before_save()
    answer_again()
  assert [text.partition(". ")[2] for text in told] == ["Trying again for up to 1 s."] * 2


def test_the_environment_sets_the_seconds(tmp_path, monkeypatch):
  monkeypatch.setenv("FILAX_LEASE_SECONDS", "7.5")
  assert Lease(tmp_path).stale_seconds == 7.5
  monkeypatch.setenv("FILAX_LEASE_SECONDS", "soon")
  with pytest.raises(ValueError, match="FILAX_LEASE_SECONDS=soon"):
    Lease(tmp_path)


@pytest.mark.parametrize("kind", ["local", "plain"])
def test_a_small_file_changes_only_from_what_was_seen(tmp_path, kind):
  path = tmp_path / "x"
  file = (
    small_file.LocalFile(path)
    if kind == "local"
    else small_file.PlainFile(small_file.epath.Path(path))
  )
  assert file.read_content() is None
  assert not file.swap(b"a", b"b") and not file.swap(b"a", None)
  assert file.swap(None, b"long") and not file.swap(None, b"other")
  assert not file.swap(b"lon", b"b") and not file.swap(b"longer", b"b")
  assert file.swap(b"long", b"ab") and file.read_content() == b"ab"
  assert file.swap(b"ab", None) and file.read_content() is None
  assert [p.name for p in tmp_path.iterdir()] == []


def test_a_file_that_was_replaced_before_it_was_locked_stays(tmp_path, monkeypatch):
  file = small_file.LocalFile(tmp_path / "file")
  assert file.swap(None, b"first")

  def replace_and_lock(descriptor):
    file.path.unlink()
    file.path.write_bytes(b"of another")
    return True

  monkeypatch.setattr(small_file, "_lock", replace_and_lock)
  assert not file.swap(b"first", b"second")
  assert file.read_content() == b"of another"


def test_a_file_that_another_process_changes_is_waited_for(tmp_path, monkeypatch):
  monkeypatch.setattr(small_file, "_LOCK_SECONDS", 0.1)
  file = small_file.LocalFile(tmp_path / "file")
  assert file.swap(None, b"first")
  with file.path.open("rb") as other:
    fcntl.flock(other, fcntl.LOCK_EX)
    assert not file.swap(b"first", b"second")
  assert file.swap(b"first", b"second")


def test_a_record_has_one_size(tmp_path):
  mine = owner.this_process(STALE)
  later = dataclasses.replace(mine, beat=10**12)
  assert len(mine.to_bytes()) == len(later.to_bytes()) == owner.RECORD_BYTES
  assert owner.decode_owner(later.to_bytes()) == later
  assert json.loads(mine.to_bytes())["pid"] == os.getpid()
