# SPDX-License-Identifier: Apache-2.0
"""A study of two cells and two seeds, killed once and resumed; shards, claims and failures."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from compile_flags import QUICK
import pytest

from filax.cli.main import main

pytestmark = pytest.mark.slow

STUDY = """
from filax.configs import fila_toy
from filax.configs.studies import common


def get_config(arg=None):
  s = common.study("tiny", "Two selectors", "No paper.")
  s.data = dict(kind="world", videos=2, held=2, joined=4, seconds=(6, 8), held_seconds=(6, 8),
    train_seconds=(6, 8), scenes=(2, 3), short=(0, 1), short_seconds=(1, 2))
  c = fila_toy.get_config("debug")
  with c.unlocked():
    c.debug_corpus = ""
    c.data.train = (("{data}/train.json", "all"),)
    c.data.tokenizer = "{data}/tokenizer.model"
    c.data.cache = ""
    c.data.rows = ((6, 0, 256, 1),)
    c.steps = 2
    c.infer.max_new_tokens = 4
  common.add_run(s, "small", c, seconds=5)
  common.add_questions(s, "held_out", common.HELD_OUT)
  even = dict(selector=dict(name="uniform", size=3),
    sampling=dict(name="uniform", frames=6, phase="ends"))
  common.add_cell(s, "scenes", "small", "Scenes", seconds=3)
  common.add_cell(s, "uniform", "small", infer=even, seconds=3)
  common.add_column(s, "all", "held_out")
  common.add_column(s, "long", "held_out", "kind", "/long")
  common.claim(s, "all", "scenes", "uniform", "nowhere")
  return s
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
  path = tmp_path_factory.mktemp("study") / "tiny.py"
  path.write_text(STUDY)
  return str(path)


@pytest.fixture(scope="module")
def killed(study, tmp_path_factory):
  """A workdir whose study was killed after its first cell."""
  workdir = tmp_path_factory.mktemp("work")
  words = ["study", study, "--workdir", str(workdir), "--seeds", "2"]
  process = start(words)
  deadline = time.monotonic() + 120
  while not list(cell_files(workdir)) and process.poll() is None and time.monotonic() < deadline:
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait()
  return workdir


def start(words, **options):
  """A command on one device; the tests' own process pretends to have eight."""
  env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK}
  return subprocess.Popen([sys.executable, "-m", "filax", *words], env=env, text=True, **options)


def output_of(words):
  """The output of a command that must succeed."""
  process = start(words, stdout=subprocess.PIPE)
  text, _ = process.communicate()
  assert process.returncode == 0
  return text


def cell_files(workdir):
  return (pathlib.Path(workdir) / "cells" / "tiny").glob("*.seed*.json")


def test_a_killed_study_goes_on_where_it_stood(study, killed):
  before = {path: path.stat().st_mtime_ns for path in cell_files(killed)}
  assert 1 <= len(before) < 4
  output = output_of(["study", study, "--workdir", str(killed), "--seeds", "2"])
  after = {path: path.stat().st_mtime_ns for path in cell_files(killed)}
  assert len(after) == 4
  assert before.items() <= after.items()
  assert "data-" not in output.split("[study]")[1]
  assert output.count("train:small.seed0 ...") == 0
  assert output.count("train:small.seed1 ...") == 1
  report = json.loads((killed / "reports/tiny/report.json").read_bytes())
  assert report["missing"] == []
  assert {row["seeds"] for row in report["table"]} == {2}
  assert report["contrasts"][0]["verdict"] in ("agrees", "disagrees", "undecided")
  assert len(list((killed / "runs").iterdir())) == 2
  assert len(list((killed / "cells/tiny").glob("questions.*.json"))) == 1


def test_a_finished_study_runs_nothing(study, killed, capsys):
  words = ["study", study, "--workdir", str(killed), "--seeds", "2"]
  assert main([*words, "--dry-run"]) == 0
  assert "4 of 4 cells are finished; 0 units are left" in capsys.readouterr().out
  assert main(words) == 0
  assert "..." not in capsys.readouterr().out


def test_a_cell_of_another_config_is_run_anew(study, killed, capsys):
  """Its answers are kept, so nothing is asked; --only and --shard choose it."""
  path = killed / "cells/tiny/uniform.seed1.json"
  cell = json.loads(path.read_bytes())
  path.write_text(json.dumps(cell | dict(hash="of another config")))
  words = ["study", study, "--workdir", str(killed), "--seeds", "2"]
  assert main([*words, "--only", "uniform", "--shard", "1/2"]) == 0
  assert "another config than the study now" in capsys.readouterr().out
  assert json.loads(path.read_bytes())["verdicts"] == cell["verdicts"]


def test_a_pattern_that_fits_no_cell_is_refused(study, tmp_path, capsys):
  assert main(["study", study, "--workdir", str(tmp_path), "--only", "scene"]) == 2
  assert "There are scenes, uniform" in capsys.readouterr().err
