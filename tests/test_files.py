# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or absent, leftovers of killed writers, and caches that check themselves."""

import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from filax import files, processes
from filax.testing import interrupted

DAY = 24 * 60 * 60
CONTENT = bytes(range(256)) + b"\n\r\n"


@pytest.fixture(autouse=True)
def _nothing_reported(monkeypatch):
  monkeypatch.setattr(files, "_reported", set())


def names(folder: pathlib.Path) -> list[str]:
  return sorted(path.name for path in folder.iterdir())


def renamed(path: pathlib.Path, **change) -> pathlib.Path:
  """A temporary name for `path` in which the writer's host, pid or start is another."""
  parts = files._LEFTOVER.fullmatch(files.temporary_name(path).name).groupdict() | change
  return path.with_name(f"{path.name}.{parts['host']}.{parts['pid']}-{parts['start']}.0123abcd.tmp")


def make_old(path: pathlib.Path, seconds: float) -> None:
  moment = time.time() - seconds
  os.utime(path, (moment, moment))


# Files and folders that are written aside.


def test_a_file_appears_at_the_end(tmp_path):
  path = tmp_path / "made" / "file"
  with files.write_atomically(path) as file:
    file.write(CONTENT)
    assert not path.exists()
  assert path.read_bytes() == CONTENT
  assert names(path.parent) == ["file"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
  """Otherwise a machine that loses its power may keep the name of an empty file."""
  path = tmp_path / "file"
  synced = []

  def note(descriptor):
    synced.append((os.fstat(descriptor).st_size, path.exists()))

  monkeypatch.setattr(os, "fsync", note)
  with files.write_atomically(path) as file:
    file.write(CONTENT)
  assert synced == [(len(CONTENT), False)]


def test_an_error_keeps_the_file_that_was(tmp_path):
  path = tmp_path / "file"
  path.write_bytes(b"before")
  with pytest.raises(KeyboardInterrupt):
    with files.write_atomically(path) as file:
      file.write(CONTENT)
      raise KeyboardInterrupt
  assert path.read_bytes() == b"before"
  assert names(tmp_path) == ["file"]


def test_a_full_disk_keeps_the_file_that_was(tmp_path):
  path = tmp_path / "file"
  path.write_bytes(b"before")
  with interrupted.full_disk(1000), pytest.raises(OSError):
    with files.write_atomically(path) as file:
      file.write(b"x" * 100_000)
  assert path.read_bytes() == b"before"
  assert names(tmp_path) == ["file"]


def test_files_can_be_read_as_the_umask_says(tmp_path):
  with files.write_atomically(tmp_path / "file") as file:
    file.write(CONTENT)
  (tmp_path / "plain").write_bytes(CONTENT)
  assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
  for name in ("n" * 255, "é" * 127):
    files.write_checked(tmp_path / name, CONTENT)
    assert files.read_checked(tmp_path / name) == CONTENT
    with interrupted.full_disk(8), pytest.raises(OSError):
      files.write_checked(tmp_path / name, CONTENT)
  assert len(names(tmp_path)) == 2


def test_a_killed_writer_leaves_the_file_that_was(tmp_path):
  path = tmp_path / "file"
  path.write_bytes(b"before")
  with interrupted.half_writer(f"write_atomically({str(path)!r})", "out.write(b'half')") as writer:
    assert files.remove_leftovers(tmp_path) == []  # It may still finish.
    writer.kill()
    deadline = time.monotonic() + 60
    while processes.process_runs(writer.pid):  # Ended, but not waited for: a zombie.
      assert time.monotonic() < deadline
      time.sleep(0.01)
    (leftover,) = files.remove_leftovers(tmp_path)
  assert leftover.name.startswith("file.") and leftover.name.endswith(".tmp")
  assert path.read_bytes() == b"before"
  assert names(tmp_path) == ["file"]


def test_a_folder_appears_at_the_end(tmp_path):
  path = tmp_path / "made" / "folder"
  path.mkdir(parents=True)  # An empty one is replaced.
  with files.write_folder_atomically(path) as folder:
    (folder / "file").write_bytes(CONTENT)
    assert names(path) == []
  assert names(path) == ["file"]
  assert names(path.parent) == ["folder"]


def test_a_folder_that_holds_something_stays(tmp_path):
  path = tmp_path / "folder"
  path.mkdir()
  (path / "other").write_bytes(CONTENT)
  with pytest.raises(OSError):
    with files.write_folder_atomically(path) as folder:
      (folder / "file").write_bytes(CONTENT)
  assert names(path) == ["other"]
  assert names(tmp_path) == ["folder"]


def test_a_killed_writer_of_a_folder_leaves_what_can_be_removed(tmp_path):
  path = tmp_path / "folder"
  interrupted.kill_writer(
    f"write_folder_atomically({str(path)!r})", "(out / 'file').write_bytes(b'half')"
  )
  assert len(names(tmp_path)) == 1 and not path.exists()
  assert len(files.remove_leftovers(tmp_path)) == 1
  assert names(tmp_path) == []


# Leftovers.


def test_leftovers_are_those_of_dead_processes_and_old_ones(tmp_path):
  dead = str(interrupted.ended_process_id())
  ours = str(os.getpid())
  target = tmp_path / "file"
  gone = [
    renamed(target, pid=dead),
    renamed(target, pid=ours, start="1"),  # An earlier process with the number of this one.
    renamed(tmp_path / "old", host="elsewhere-1"),
    renamed(tmp_path / "old", host="elsewhere-1", pid=dead),
  ]
  stay = [
    renamed(target),  # Of this very process.
    renamed(target, host="elsewhere-1"),
    renamed(target, host="elsewhere-1", pid=dead),
  ]
  for path in (*gone, *stay):
    path.write_bytes(b"half")
  for path in gone[2:]:
    make_old(path, DAY + 60)
  for path in stay[1:]:
    make_old(path, DAY - 600)
  make_old(stay[0], 3 * DAY)  # A slow writer, but one that runs.
  assert set(files.remove_leftovers(tmp_path)) == set(gone)
  assert set(tmp_path.iterdir()) == set(stay)


def test_files_of_others_stay_however_old(tmp_path):
  ours = renamed(tmp_path / "file", pid=str(interrupted.ended_process_id())).name
  foreign = [
    "notes.tmp",
    "file.tmp",
    ".tmp",
    "file.part",
    "file.host.123.tmp",
    "a.b.c.d.tmp",
    ours + ".gz",
    ours + "\n",
    ours.removesuffix(".tmp"),
    ours.replace("0123abcd", "0123ABCD"),
    ours.replace("0123abcd", "0123abc"),
    ours.removeprefix("file"),
    "tmpabcd1234.tmp",
    "file.host-1.12x-3.0123abcd.tmp",
    "file.host-1.0-3.0123abcd.tmp",
  ]
  for name in foreign:
    (tmp_path / name).write_bytes(b"theirs")
    make_old(tmp_path / name, 30 * DAY)
  assert files.remove_leftovers(tmp_path) == []
  assert names(tmp_path) == sorted(foreign)


def test_leftovers_never_reach_through_a_link(tmp_path):
  target = tmp_path / "target"
  target.mkdir()
  (target / "file").write_bytes(CONTENT)
  link = renamed(tmp_path / "link", pid=str(interrupted.ended_process_id()))
  link.symlink_to(target)
  assert files.remove_leftovers(tmp_path) == [link]
  assert names(target) == ["file"]


def test_removing_leftovers_never_raises(tmp_path):
  file = tmp_path / "file"
  file.write_bytes(CONTENT)
  for folder in (tmp_path / "missing", file, file / "below", "/proc/self/fd"):
    assert files.remove_leftovers(folder) == []


def test_process_runs():
  assert processes.process_runs(os.getpid())
  assert processes.process_runs(os.getpid(), processes.process_start(os.getpid()))
  assert not processes.process_runs(os.getpid(), 1)
  assert processes.process_runs(1)
  dead = interrupted.ended_process_id()
  assert not processes.process_runs(dead)
  assert processes.process_start(dead) == 0
  for impossible in (0, -1, 1 << 40, 1 << 80):
    assert not processes.process_runs(impossible)


def test_a_system_without_proc_tells_the_same(monkeypatch):
  """As macOS: a process that ended without being awaited has ended."""
  child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
  monkeypatch.setattr(processes, "_process_facts", processes._portable_facts)
  start = processes.process_start(child.pid)
  assert start > 0
  assert processes.process_runs(child.pid, start)
  assert not processes.process_runs(child.pid, start + 1)
  child.kill()
  deadline = time.monotonic() + 60
  while processes.process_runs(child.pid, start):
    assert time.monotonic() < deadline
    time.sleep(0.01)
  child.communicate()
  assert processes.process_start(child.pid) == 0


# Checked files.


def test_a_checked_file_comes_back(tmp_path):
  path = tmp_path / "file"
  for content in (b"", b"\n", CONTENT, memoryview(CONTENT)):
    files.write_checked(path, content)
    assert files.read_checked(path) == content
  first, _, rest = path.read_bytes().partition(b"\n")
  assert first.startswith(b"filax-checked-1 sha256:") and rest == CONTENT
  with pytest.raises(FileNotFoundError):
    files.read_checked(tmp_path / "missing")
  with pytest.raises(files.DamagedFile, match="is not a file"):
    files.read_checked(tmp_path)


def test_every_flipped_byte_is_damage(tmp_path):
  path = tmp_path / "file"
  files.write_checked(path, CONTENT)
  sound = path.read_bytes()
  for place in range(len(sound)):
    damaged = bytearray(sound)
    damaged[place] ^= 1 << place % 8
    path.write_bytes(damaged)
    with pytest.raises(files.DamagedFile) as error:
      files.read_checked(path)
    assert str(path) in str(error.value)


def test_every_other_length_is_damage(tmp_path):
  path = tmp_path / "file"
  files.write_checked(path, CONTENT)
  sound = path.read_bytes()
  for length in range(len(sound)):
    path.write_bytes(sound[:length])
    with pytest.raises(files.DamagedFile):
      files.read_checked(path)
  for more in (b"\0", b"\n", sound):
    path.write_bytes(sound + more)
    with pytest.raises(files.DamagedFile):
      files.read_checked(path)


def test_a_file_under_another_label_is_damage(tmp_path):
  path = tmp_path / "file"
  files.write_checked(path, CONTENT, "epoch 1")
  assert files.read_checked(path, "epoch 1") == CONTENT
  for other in ("", "epoch 2"):
    with pytest.raises(files.DamagedFile, match="digest differs"):
      files.read_checked(path, other)


def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "file")
  with pytest.raises(files.DamagedFile, match="is not a file"):
    files.read_checked(tmp_path / "file")


# Caches.


def test_a_missing_cache_is_no_news(tmp_path, capsys):
  assert files.read_cache(tmp_path / "file", json.loads) is None
  assert capsys.readouterr().err == ""


def test_a_damaged_cache_is_reported_once_until_it_is_written(tmp_path, capsys):
  path = tmp_path / "file"
  for _ in range(2):
    path.write_bytes(b"torn")
    for _ in range(3):
      assert files.read_cache(path, json.loads) is None
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and str(path) in line and "made anew" in line
    assert files.write_cache(path, b"[1]")
    assert files.read_cache(path, json.loads) == [1]
  assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
  "error",
  [SyntaxError, EOFError, RecursionError, MemoryError, KeyError("x"), OverflowError, ValueError],
)
def test_whatever_a_parser_raises_is_damage(error, tmp_path, capsys):
  def parse(content):
    raise error

  files.write_cache(tmp_path / "file", CONTENT)
  assert files.read_cache(tmp_path / "file", parse) is None
  assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_costs_one_line(tmp_path, capsys):
  blocked = tmp_path / "blocked"
  blocked.write_bytes(b"")  # A file where the folder should be: not even root writes there.
  for name in ("a", "b"):
    assert not files.write_cache(blocked / name, CONTENT)
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and line.startswith(f"{blocked} cannot be written (")
  full = tmp_path / "full"
  with interrupted.full_disk(100):
    assert not files.write_cache(full / "a", CONTENT)
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and line.startswith(f"{full} cannot be written (File too large)")
  assert names(full) == []


def test_a_read_only_cache_is_read_and_not_written(capsys):
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    leftover = renamed(folder / "file", pid=str(interrupted.ended_process_id()))
    leftover.write_bytes(b"half")
    files.write_cache(folder / "file", b"[1]")
    with interrupted.read_only_folder(folder):
      assert files.remove_leftovers(folder) == []
      assert files.read_cache(folder / "file", json.loads) == [1]
      assert capsys.readouterr().err == ""
      assert not files.write_cache(folder / "file", b"[2]")
      assert files.read_cache(folder / "file", json.loads) == [1]
  line = capsys.readouterr().err
  assert line.count("\n") == 1
  assert line.startswith(f"{folder} cannot be written (Permission denied)")


def test_a_file_that_cannot_be_read_is_reported(tmp_path, capsys):
  path = tmp_path / "file"
  path.symlink_to(path)  # A loop: an OSError for everyone, root included.
  assert files.read_cache(path, json.loads) is None
  assert f"{path} cannot be read (" in capsys.readouterr().err


def write_often(path: pathlib.Path, letter: str) -> None:
  for length in range(1, 40):
    files.write_checked(path, (letter * length * 1000).encode())


def test_writers_at_once_never_show_half_a_file(tmp_path):
  path = tmp_path / "file"
  write_often(path, "a")
  context = multiprocessing.get_context("spawn")
  writers = [context.Process(target=write_often, args=(path, letter)) for letter in "bc"]
  writers.append(threading.Thread(target=write_often, args=(path, "d")))
  for writer in writers:
    writer.start()
  while any(writer.is_alive() for writer in writers):
    files.remove_leftovers(tmp_path)  # Takes nothing from a writer that runs.
    assert len(set(files.read_checked(path))) == 1
  for writer in writers[:2]:
    writer.join()
    assert writer.exitcode == 0
  assert names(tmp_path) == ["file"]


def test_importing_files_is_cheap():
  code = "import sys; from filax import files; print({'numpy', 'jax'} & set(sys.modules))"
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, cwd=interrupted.ROOT
  )
  assert done.stdout.strip() == "set()", done.stderr
