# SPDX-License-Identifier: Apache-2.0
"""The bound on copies of bucket objects."""

from concurrent.futures import ThreadPoolExecutor
import os
import subprocess
import sys
import time

import pytest

from data_pipelines.media import copies, remote


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path))
  monkeypatch.setenv(copies.BOUND, "0.0001")  # 100 kB.
  return tmp_path / "downloads"


def write_copy(folder, name, minutes, size=30_000):
  """A copy that was used so many minutes ago."""
  path = folder / name[:2] / name / "a.mp4"
  path.parent.mkdir(parents=True)
  path.write_bytes(bytes(size))
  then = time.time() - 60 * minutes
  os.utime(path, (then, then))
  return path


def names(folder):
  return sorted(path.parent.name for path in folder.glob("*/*/*"))


def test_the_longest_unused_copies_are_removed(folder):
  for minutes in (30, 50, 20, 40):
    write_copy(folder, f"used{minutes}", minutes)
  copies.make_room(0)
  assert names(folder) == ["used20", "used30", "used40"]
  assert not (folder / "us" / "used50").exists()


def test_room_is_made_before_a_copy_comes(folder):
  for minutes in (20, 30, 40):
    write_copy(folder, f"used{minutes}", minutes)
  copies.make_room(50_000)
  assert names(folder) == ["used20"]


def test_copies_in_use_stay_beyond_the_bound(folder):
  for minutes in range(6):
    write_copy(folder, f"used{minutes}", minutes)
  copies.make_room(0)
  assert len(names(folder)) == 6


def test_a_marked_copy_stays(folder):
  path = write_copy(folder, "oldest", 90)
  for minutes in (30, 40, 50):
    write_copy(folder, f"used{minutes}", minutes)
  before = path.stat()
  assert copies.mark_used(path, before)
  assert path.stat().st_mtime_ns == before.st_mtime_ns
  copies.make_room(0)
  assert names(folder) == ["oldest", "used30", "used40"]


def test_a_removed_copy_is_not_marked(folder):
  path = write_copy(folder, "gone", 90)
  facts = path.stat()
  path.unlink()
  assert not copies.mark_used(path, facts)


def test_an_open_copy_stays_readable(folder):
  path = write_copy(folder, "open", 90, size=200_000)
  with open(path, "rb") as file:
    copies.make_room(0)
    assert not path.exists()
    assert len(file.read()) == 200_000


def test_a_wrong_bound_is_named_and_not_used(folder, monkeypatch, capsys):
  monkeypatch.setenv(copies.BOUND, "much")
  write_copy(folder, "old", 90)
  copies.make_room(0)
  assert names(folder) == ["old"]
  assert "$FILAX_DOWNLOADS_GB='much' is not a number of gigabytes" in capsys.readouterr().err


def test_processes_that_remove_disturb_no_process_that_uses(folder):
  """Readers mark and open copies while others remove whatever is unused."""
  for number in range(300):
    write_copy(folder, f"{number:04d}", 30 + number, size=1000)
  reader = (
    "from data_pipelines.media import copies\n"
    "for number in reversed(range(300)):\n"
    "  path = copies.downloads_folder() / f'{number:04d}'[:2] / f'{number:04d}' / 'a.mp4'\n"
    "  try:\n"
    "    facts = path.stat()\n"
    "  except FileNotFoundError:\n"
    "    continue\n"
    "  if copies.mark_used(path, facts):\n"
    "    assert len(open(path, 'rb').read()) == 1000\n"
  )
  remover = "from data_pipelines.media import copies; copies.make_room(250_000)"
  running = []
  for code in (reader, remover, reader, remover):
    running.append(subprocess.Popen([sys.executable, "-c", code]))
  assert [process.wait() for process in running] == [0, 0, 0, 0]


def test_versions_that_another_thread_forgets_are_asked_for_again(monkeypatch):
  """A look-up that failed was taken for a damaged medium, and its sample was masked."""

  class Forgetting(dict):
    def __contains__(self, url):
      return self.pop(url, None) is not None

  found = remote.RemoteObject("gs://bucket/a.mp4", 3, 7)
  monkeypatch.setattr(remote, "_asked", Forgetting({found.url: found}))
  monkeypatch.setattr(remote, "_ask", lambda url: found)
  assert remote.stat_object(found.url) == found
  assert remote.stat_object(found.url) == found


def test_threads_may_forget_versions_at_once(monkeypatch):
  monkeypatch.setattr(remote, "_REMEMBERED", 50)
  monkeypatch.setattr(remote, "_asked", {})
  before = sys.getswitchinterval()
  sys.setswitchinterval(1e-6)
  try:
    with ThreadPoolExecutor(8) as threads:
      urls = [f"gs://bucket/{number}" for number in range(20_000)]
      list(threads.map(lambda url: remote._remember(url, None), urls))
  finally:
    sys.setswitchinterval(before)
  assert len(remote._asked) == 50
