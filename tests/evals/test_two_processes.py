# SPDX-License-Identifier: Apache-2.0
"""Two real processes evaluate together; a video that one of them loses is skipped by both."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

from compile_flags import QUICK
import pytest

from data_pipelines.synthesis import toy
from filax.testing import manifests

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = pathlib.Path(__file__).with_name("trained_by_processes.py")


def free_port():
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def start(folder, missing, index, address):
  more = dict(
    JAX_PLATFORMS="cpu",
    XLA_FLAGS=QUICK,
    PYTHONPATH=str(ROOT),
    FILAX_COORDINATOR=address,
    FILAX_PROCESSES="2",
    FILAX_PROCESS_ID=str(index),
  )
  return subprocess.Popen(
    [sys.executable, str(SCRIPT), str(folder), missing],
    env=os.environ | more,
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )


def test_both_skip_the_video_that_one_has_lost(tmp_path):
  toy.tiny_corpus(tmp_path / "0")
  questions = json.loads((tmp_path / "0" / "manifest.json").read_text())[:2]
  questions.append(manifests.question_record("Who?", "you", kind="words"))
  (tmp_path / "0" / "held_out.json").write_text(json.dumps(questions))
  shutil.copytree(tmp_path / "0", tmp_path / "1")
  address = f"127.0.0.1:{free_port()}"
  running = [start(tmp_path, questions[0]["video"], index, address) for index in range(2)]
  printed = []
  for process in running:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    printed.append([json.loads(line) for line in out.splitlines() if line.startswith("{")])
  assert printed[0] == printed[1], "both have the same scores"
  (table,) = printed[0]
  assert table["eval/held_out/skipped"] > 0 and table["eval/held_out/questions"] > 1
  assert "eval/failed" not in table
  result = json.loads((tmp_path / "run/evals/2/held_out/result.json").read_text())
  (reason,) = result["bad_media"].values()
  assert reason.startswith("Process 1 cannot read it:")
  assert json.loads((tmp_path / "run" / "best.json").read_text())["step"] == 2
