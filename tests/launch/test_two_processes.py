# SPDX-License-Identifier: Apache-2.0
"""A run of two processes: killed in one and started again, it ends as a run of one process does."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from compile_flags import FOUR, QUICK
from free_ports import free_port
import numpy as np
import pytest

from data_pipelines.synthesis import toy

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 6


def command(folder, workdir, **keys):
  corpus = folder / "corpus"
  keys = {
    "steps": STEPS,
    "checkpoint_every": 2,
    "debug_corpus": "",
    "batch": 4,
    "data.train": f'(("{corpus}/manifest.json","all"),)',
    "data.rows": "((24,0,384,3),)",
    "data.tokenizer": f"{corpus}/tokenizer.model",
  } | keys
  return [
    "train",
    "--config",
    "configs/fila_stage4.py:debug,packed",
    "--workdir",
    str(workdir),
    *(f"--config.{key}={value}" for key, value in keys.items()),
  ]


def environment(**more):
  return os.environ | dict(JAX_PLATFORMS="cpu", XLA_FLAGS=QUICK, PYTHON=sys.executable) | more


def losses(workdir):
  path = workdir / "metrics.jsonl"
  lines = path.read_text().splitlines() if path.exists() else []
  return {r["step"]: r["loss"] for r in map(json.loads, lines)}


def launched(folder, workdir, *options, **keys):
  return subprocess.Popen(
    [
      "bash",
      "launch/local.sh",
      "--processes",
      "2",
      "--devices",
      "2",
      "--port",
      str(free_port()),
      *options,
      "--",
      *command(folder, workdir, **keys),
    ],
    cwd=ROOT,
    env=environment(),
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    start_new_session=True,
  )


def children(process):
  """The numbers of the launcher's filax processes."""
  listed = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
  commands = {int(pid): pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in listed}
  return [pid for pid, command in commands.items() if b"filax" in command]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("two")
  toy.tiny_corpus(folder / "corpus")
  return folder


@pytest.fixture(scope="module")
def alone(folder):
  """The losses of one process with four devices."""
  subprocess.run(
    [sys.executable, "-m", "filax", *command(folder, folder / "alone", keep=0)],
    cwd=ROOT,
    check=True,
    env=environment(XLA_FLAGS=FOUR),
    capture_output=True,
    timeout=300,
  )
  return losses(folder / "alone")


def test_a_killed_process_is_started_again(folder, alone):
  """Rows are spread over the processes; one is killed with SIGKILL, the launcher starts both."""
  workdir = folder / "killed"
  process = launched(folder, workdir, "--restarts", "1")
  while not any(step >= 3 for step in losses(workdir)):
    assert process.poll() is None, process.stdout.read()
    time.sleep(0.02)
  os.kill(children(process)[-1], signal.SIGKILL)
  said, _ = process.communicate(timeout=300)
  assert process.returncode == 0, said
  assert "restart 1 of 1" in said and "Resuming at step" in said
  found = losses(workdir)
  assert sorted(found) == list(range(1, STEPS + 1))
  np.testing.assert_allclose(
    [found[n] for n in sorted(found)], [alone[n] for n in sorted(alone)], rtol=1e-5
  )


def test_frames_of_a_row_are_loaded_by_both(folder, alone):
  """config.mesh.seq spans the processes: each decodes half of the frames of every row. It goes on
  from a checkpoint of one process, which the run before left."""
  workdir = folder / "alone"
  before = {n: loss for n, loss in alone.items() if n > 4}
  shutil.rmtree(workdir / "checkpoints" / "6")
  process = launched(folder, workdir, **{"mesh.fsdp": 1, "mesh.seq": -1, "keep": 0})
  said, _ = process.communicate(timeout=300)
  assert process.returncode == 0, said
  assert "Resuming at step" in said
  found = losses(workdir)
  assert sorted(found) == list(range(1, STEPS + 1))
  np.testing.assert_allclose([found[n] for n in before], list(before.values()), rtol=1e-5)


def test_a_process_that_does_not_come_is_named(folder):
  env = environment(
    FILAX_COORDINATOR=f"127.0.0.1:{free_port()}",
    FILAX_PROCESSES="2",
    FILAX_PROCESS_ID="0",
    FILAX_START_SECONDS="3",
  )
  done = subprocess.run(
    [sys.executable, "-m", "filax", *command(folder, folder / "never")],
    cwd=ROOT,
    env=env,
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert done.returncode != 0
  assert "process 1 did not come" in done.stderr and "FILAX_START_SECONDS" in done.stderr
