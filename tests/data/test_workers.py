# SPDX-License-Identifier: Apache-2.0
"""Workers take no signals, end with their run, and are missed when somebody kills them."""

import errno
import multiprocessing
import multiprocessing.synchronize
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from data_pipelines import workers
from filax.testing import corpora

ROOT = pathlib.Path(__file__).parents[2]
ENDLESS = """
import multiprocessing, pathlib, sys
sys.path.insert(0, ".")
from filax.testing import corpora
if __name__ == "__main__":
  with corpora.open_pipeline(pathlib.Path(sys.argv[1]), workers=2).batches() as batches:
    next(batches)
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return corpora.write_corpus(tmp_path_factory.mktemp("corpus"))


def grain_workers():
  return [p for p in multiprocessing.active_children() if p.name.startswith("grain")]


def runs(pid):
  """Whether a process of this number exists and has not ended."""
  try:
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except OSError:
    return False
  return text.rpartition(")")[2].split()[0] != "Z"


def test_signals_do_nothing_and_a_kill_is_one_sentence(folder):
  with corpora.open_pipeline(folder, workers=1).batches() as batches:
    next(batches)
    (worker,) = grain_workers()
    os.kill(worker.pid, signal.SIGTERM)
    os.kill(worker.pid, signal.SIGINT)
    for _ in range(8):
      next(batches)
    assert worker.is_alive()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(workers.WorkerEnded, match=r"\(SIGKILL\).*config\.data\.workers"):
      for _ in range(100):
        next(batches)
  assert not grain_workers()


def test_they_end_when_their_run_is_killed(folder):
  run = subprocess.Popen(
    [sys.executable, "-c", ENDLESS, str(folder)],
    cwd=ROOT,
    text=True,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )
  pids = [int(text) for text in run.stdout.readline().split()]
  assert len(pids) == 2
  run.kill()
  _, said = run.communicate(timeout=60)  # The end of what they hold open is the end of them all.
  deadline = time.monotonic() + 60
  while any(runs(pid) for pid in pids) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not [pid for pid in pids if runs(pid)]
  assert "leaked" not in said


def test_a_script_that_does_not_guard_its_calls_is_named():
  """A worker that runs the main script again fails in it, which is no lack of memory."""
  ended = RuntimeError("Worker process was terminated unexpectedly with exit code 1.")
  with pytest.raises(workers.WorkerEnded, match=r'exit code 1; .* under if __name__ == "__main__"'):
    workers.raise_if_ended(ended)


def test_another_error_is_left_alone():
  workers.raise_if_ended(RuntimeError("something else"))


def test_a_worker_without_shared_memory_names_it():
  """The kernel ends a process that writes to a full /dev/shm by SIGBUS."""
  ended = RuntimeError("Worker process was terminated unexpectedly with exit code -7.")
  with pytest.raises(workers.NoSharedMemory, match=r"/dev/shm: .* config\.data\.workers=0"):
    workers.raise_if_ended(ended)


def test_a_machine_without_shared_memory_names_it(monkeypatch):
  monkeypatch.setattr(multiprocessing.synchronize.SemLock, "_make_name", lambda _: "/no/such/name")
  with pytest.raises(OSError) as error:
    multiprocessing.Lock()
  with pytest.raises(workers.NoSharedMemory, match="--shm-size"):
    workers.raise_if_no_shared_memory(error.value)
  workers.raise_if_no_shared_memory(OSError("something else"))
  error.value.errno = errno.EMFILE  # A limit of open files is no lack of memory.
  workers.raise_if_no_shared_memory(error.value)
