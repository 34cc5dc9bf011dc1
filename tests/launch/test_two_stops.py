# SPDX-License-Identifier: Apache-2.0
"""How a run of two processes ends before its last step: all of it, and soon."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from compile_flags import QUICK
from free_ports import free_port
import pytest

from filax.checkpoint.lease import Lease

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
MADE_RUN = ROOT / "tests/train/made_run.py"


class Pair:
  """Two processes of one run on made rows; killed at the end of a with block."""

  def __init__(self, workdir, mode, *more):
    self.workdir = workdir
    common = dict(
      JAX_PLATFORMS="cpu",
      XLA_FLAGS=QUICK,
      PYTHONPATH=f"{ROOT}:{MADE_RUN.parent}",
      FILAX_COORDINATOR=f"127.0.0.1:{free_port()}",
      FILAX_PROCESSES="2",
    )
    command = [
      sys.executable,
      str(MADE_RUN),
      mode,
      "--config",
      str(MADE_RUN),
      "--workdir",
      str(workdir),
      "--exit-when-stopped",
      "75",
      *more,
    ]
    self.processes = []
    self.logs = []
    for index in range(2):
      self.logs.append(workdir.parent / f"{workdir.name}.{len(list(workdir.parent.iterdir()))}.log")
      with open(self.logs[-1], "wb") as log:
        self.processes.append(
          subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | common | dict(FILAX_PROCESS_ID=str(index)),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
          )
        )

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for process in self.processes:
      process.kill()
      process.wait()

  def said(self):
    return [log.read_text(errors="replace") for log in self.logs]

  def reach(self, text):
    """Returns when process 0 has said `text`."""
    while text not in self.said()[0]:
      assert self.processes[0].poll() is None, self.said()
      time.sleep(0.05)

  def codes(self):
    return [process.wait(timeout=240) for process in self.processes]


def steps_of(workdir):
  return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  """The workdir of a run of which process 1 alone got SIGTERM, while both waited for rows."""
  workdir = tmp_path_factory.mktemp("two_stops") / "run"
  with Pair(workdir, "hang:3") as pair:
    pair.reach("| loss")
    os.kill(pair.processes[1].pid, signal.SIGTERM)
    assert pair.codes() == [75, 75], pair.said()
    assert "Stopped at step" in pair.said()[0]
  return workdir


def test_a_signal_on_one_process_stops_and_saves_all(stopped):
  assert len(steps_of(stopped)) == 1 and not (stopped / "lease.json").exists()


def test_a_resumed_run_drops_half_a_save_and_stops_on_ctrl_c(stopped):
  """Process 0 alone removes what a kill left; its SIGINT reaches the other process, too."""
  first = steps_of(stopped)[0]
  half = stopped / "checkpoints" / f"{first + 8}.orbax-checkpoint-tmp"
  shutil.copytree(stopped / "checkpoints" / str(first), half)
  with Pair(stopped, "plain") as pair:
    pair.reach(f"step {first + 2}/")
    os.kill(pair.processes[0].pid, signal.SIGINT)
    assert pair.codes() == [75, 75], pair.said()
    assert "half-written" in pair.said()[0] and f"Resuming at step {first}," in pair.said()[0]
  assert not half.exists() and max(steps_of(stopped)) > first


def test_a_signal_before_the_first_step_stops_all(stopped):
  before = steps_of(stopped)
  with Pair(stopped, "plain") as pair:
    pair.reach("Resuming at step")
    os.kill(pair.processes[1].pid, signal.SIGTERM)
    assert pair.codes() == [75, 75], pair.said()
  assert max(steps_of(stopped)) <= max(before) + 1


def test_a_second_start_is_refused_on_all_processes(tmp_path):
  workdir = tmp_path / "run"
  with Lease(workdir), Pair(workdir, "plain") as pair:
    assert pair.codes() == [2, 2], pair.said()
    for said in pair.said():
      assert f"is in use by process {os.getpid()} on host" in said.splitlines()[-1]
  assert list(workdir.iterdir()) == []


def test_a_process_without_rows_ends_all(tmp_path):
  """The loader of process 1 hangs: both show their stacks and end."""
  with Pair(tmp_path / "run", "hang:3:1", "--config.stall_seconds=3") as pair:
    assert 0 not in pair.codes() and 75 not in pair.codes()
    for said in pair.said():
      assert "config.stall_seconds" in said and "most recent call first" in said
