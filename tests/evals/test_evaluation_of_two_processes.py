# SPDX-License-Identifier: Apache-2.0
"""Two real processes evaluate together; what one of them loses is skipped by both."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

from compile_flags import QUICK
from free_ports import free_port
import pytest

from data_pipelines.synthesis import toy
from filax.testing import manifests

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
TRAINED = pathlib.Path(__file__).with_name("trained_by_processes.py")
STOPPED = pathlib.Path(__file__).with_name("stopped_while_evaluating.py")


def start(script, folder, index, address, *arguments):
  more = dict(
    JAX_PLATFORMS="cpu",
    XLA_FLAGS=QUICK,
    PYTHONPATH=str(ROOT),
    FILAX_COORDINATOR=address,
    FILAX_PROCESSES="2",
    FILAX_PROCESS_ID=str(index),
  )
  return subprocess.Popen(
    [sys.executable, str(script), str(folder), *arguments],
    env=os.environ | more,
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )


def run_both(script, folder, *arguments):
  """The JSON lines that each of two processes prints."""
  address = f"127.0.0.1:{free_port()}"
  running = [start(script, folder, index, address, *arguments) for index in range(2)]
  printed = []
  for process in running:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    printed.append([json.loads(line) for line in out.splitlines() if line.startswith("{")])
  return printed


def test_what_one_has_lost_is_skipped_by_both(tmp_path):
  """A video, and the manifest of a second evaluation; both go on."""
  toy.tiny_corpus(tmp_path / "0")
  questions = json.loads((tmp_path / "0" / "manifest.json").read_text())[:2]
  questions.append(manifests.question_record("Who?", "you", kind="words"))
  for name in ("held_out.json", "gone.json"):
    (tmp_path / "0" / name).write_text(json.dumps(questions))
  shutil.copytree(tmp_path / "0", tmp_path / "1")
  printed = run_both(TRAINED, tmp_path, questions[0]["video"], "gone.json")
  assert printed[0] == printed[1], "both have the same scores"
  table, again = printed[0]
  assert again == {"lacks": True}, "process 0 decides"
  assert table["eval/held_out/skipped"] > 0 and table["eval/held_out/questions"] > 1
  assert table["eval/failed"] == 1 and "eval/gone/accuracy" not in table
  result = json.loads((tmp_path / "run/evals/2/held_out/result.json").read_text())
  (reason,) = result["bad_media"].values()
  assert reason.startswith("Process 1 cannot read it:")
  assert json.loads((tmp_path / "run" / "best.json").read_text())["step"] == 2


def test_a_signal_on_one_process_ends_the_evaluation_of_both(tmp_path):
  toy.tiny_corpus(tmp_path / "0")
  questions = json.loads((tmp_path / "0" / "manifest.json").read_text())[:2]
  (tmp_path / "0" / "held_out.json").write_text(json.dumps(questions))
  shutil.copytree(tmp_path / "0", tmp_path / "1")
  for (ended,) in run_both(STOPPED, tmp_path):
    assert ended == {"stopped": True, "steps": 2}
  first, second = run_both(STOPPED, tmp_path)
  assert first == second and first[-1] == {"stopped": False, "steps": 6}
  for step in (2, 4, 6):
    assert (tmp_path / f"run/evals/{step}/held_out/result.json").exists()
