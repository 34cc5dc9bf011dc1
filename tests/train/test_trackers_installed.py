# SPDX-License-Identifier: Apache-2.0
"""wandb and trackio themselves take the records of a run, without a network.

Skipped, with a line that names the package, where one is not installed.
"""

import os
import pathlib
import sqlite3
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]

# Two processes track one run: the second goes on where the first was killed.
PROGRAM = """
import sys
from filax.train import trackers

name, workdir, first = sys.argv[1:]
tracker, = trackers.make_trackers([name])
tracker.begin_run(trackers.TrackedRun(workdir, {"seed": 3, "size": (1, 2)}, int(first)))
for step in (int(first) + 1, int(first) + 2):
  tracker.track(step, {"loss": 1 / step, "mfu": None, "eval/q/accuracy": 0.5})
tracker.end_run()
"""


def track_twice(name, folder, **environment):
  """Tracks steps 1 to 4 in two processes; returns what they printed."""
  pytest.importorskip(name, reason=f"{name} is not installed (pip install 'filax[{name}]')")
  search_path = os.pathsep.join([str(ROOT), *sys.path])
  variables = dict(os.environ, PYTHONPATH=search_path, JAX_PLATFORMS="cpu", **environment)
  printed = ""
  for first in ("0", "2"):
    command = [sys.executable, "-c", PROGRAM, name, str(folder / "run"), first]
    done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed += done.stdout + done.stderr
  return printed


def test_wandb_keeps_a_run_on_this_machine(tmp_path):
  printed = track_twice("wandb", tmp_path, WANDB_MODE="offline", WANDB_PROJECT="cooking")
  assert "left out" not in printed
  files = sorted((tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))
  assert len(files) == 2 and len({file.name for file in files}) == 1  # One run, to be joined.
  for file, loss in zip(files, (b"0.5", b"0.25"), strict=True):
    content = file.read_bytes()
    assert b"train/loss" in content and b"eval/q/accuracy" in content and loss in content
    assert b"cooking" in content


def test_trackio_keeps_a_run_on_this_machine(tmp_path):
  tables = tmp_path / "trackio"
  printed = track_twice("trackio", tmp_path, TRACKIO_DIR=str(tables))
  assert "left out" not in printed
  with sqlite3.connect(tables / "filax.db") as database:
    rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
  names, steps, values = zip(*rows, strict=True)
  assert len(set(names)) == 1 and steps == (1, 2, 3, 4)
  assert "train/loss" in str(values[0]) and "eval/q/accuracy" in str(values[0])
