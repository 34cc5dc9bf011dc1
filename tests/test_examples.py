# SPDX-License-Identifier: Apache-2.0
"""The scripts of examples/, each run as its docstring says, on one tiny run."""

import json
import os
import pathlib
import re
import subprocess
import sys

from compile_flags import QUICK
import pytest

from data_pipelines.synthesis import toy

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run_example(name, *arguments, folder):
  """Runs a script in a folder; returns what it prints."""
  # One device, as on a laptop: the tests' own process pretends to have eight.
  settings = dict(JAX_PLATFORMS="cpu", XLA_FLAGS=QUICK, PYTHONPATH=str(ROOT))
  done = subprocess.run(
    [sys.executable, ROOT / "examples" / name, *arguments],
    cwd=folder,
    env=os.environ | settings,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 0, f"{name} failed:\n{done.stdout}\n{done.stderr}"
  return done.stdout


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
  """A folder with the corpus of `:debug` and a run on its JSON, runs/mine."""
  folder = tmp_path_factory.mktemp("examples")
  toy.tiny_corpus(folder / "runs/debug_corpus")
  manifest = "runs/debug_corpus/manifest.json"
  run_example("train_on_your_json.py", manifest, "runs/mine", "--steps", "2", folder=folder)
  return folder


VIDEO = "runs/debug_corpus/videos/tiny-000.mp4"


@pytest.mark.slow
def test_train_on_your_json_leaves_a_checkpoint(folder):
  assert (folder / "runs/mine/checkpoints/2").is_dir(), "two steps were asked for"


@pytest.mark.slow
def test_ask_from_python_answers_every_question(folder):
  questions = ("What shape is on red?", "And on blue?")
  printed = run_example("ask_from_python.py", "runs/mine", VIDEO, *questions, folder=folder)
  assert all(question in printed for question in questions), printed


@pytest.mark.slow
def test_add_an_encoder_trains_and_loads_it(folder):
  printed = run_example("add_an_encoder.py", "runs/patches", folder=folder)
  assert "Patches" in printed, printed


@pytest.mark.slow
def test_convert_a_folder_brings_every_weight_back(folder):
  printed = run_example(
    "convert_a_folder.py", "runs/mine", "runs/as_torch", "runs/back", folder=folder
  )
  assert "bit by bit" in printed, printed


@pytest.fixture(scope="module")
def scenes(folder):
  """The folder with scenes.json and sheet.png of a video."""
  options = ("--count", "2", "--sheet", "sheet.png")
  run_example("read_scenes.py", "runs/mine", VIDEO, *options, folder=folder)
  return folder


@pytest.mark.slow
def test_read_scenes_writes_json(scenes):
  report = json.loads((scenes / "scenes.json").read_text())
  assert len(report["scenes"]) == 2, report


@pytest.mark.slow
def test_read_scenes_draws_a_sheet(scenes):
  header = (scenes / "sheet.png").read_bytes()[:8]
  assert header == b"\x89PNG\r\n\x1a\n", f"sheet.png is not a PNG: it begins with {header!r}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(path):
  lines = path.read_text().count("\n")
  assert lines <= 60, f"{path.name} has {lines} lines; cut it, or move code into the library"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_shows_its_command(path):
  command = f"  python examples/{path.name}"
  assert command in path.read_text(), f"the docstring of {path.name} lacks its command"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_tested(path):
  tests = pathlib.Path(__file__).read_text()
  assert re.search(rf'run_example\(\s*"{path.name}"', tests), f"no test runs {path.name}"
