# SPDX-License-Identifier: Apache-2.0
"""Two processes that would train different plans, or of which one refuses, end in seconds."""

import os
import pathlib
import shutil
import subprocess
import sys

from free_ports import free_port
import pytest
from test_two_processes import command, environment

from data_pipelines.synthesis import toy
from filax.testing import qwen2_folder

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("plans")
  toy.tiny_corpus(folder / "corpus")
  return folder


def outcomes(folder, workdir, second):
  """(exit code, stderr) of two processes; the second one has more arguments."""
  port = free_port()
  started = []
  for index, more in enumerate(([], second)):
    env = environment(
      FILAX_COORDINATOR=f"127.0.0.1:{port}", FILAX_PROCESSES="2", FILAX_PROCESS_ID=str(index)
    )
    started.append(
      subprocess.Popen(
        [sys.executable, "-m", "filax", *command(folder, workdir), *more],
        cwd=ROOT,
        env=env,
        text=True,
        stderr=subprocess.PIPE,
      )
    )
  results = []
  for process in started:
    try:
      _, errors = process.communicate(timeout=120)  # JAX's barrier at exit would take 300 s.
    except subprocess.TimeoutExpired as late:
      for other in started:
        other.kill()
      pytest.fail(f"A process did not end: {late.stderr}; those before it: {results}")
    results.append((process.returncode, errors))
  return results


def elsewhere(folder, name):
  """Another host's copy of the corpus."""
  copy = folder / name
  shutil.copytree(folder / "corpus", copy)
  return copy


def test_a_file_that_one_process_cannot_see_is_named(folder):
  copy = elsewhere(folder, "media")
  video = sorted(copy.rglob("*.mp4"))[0]
  video.unlink()
  for code, errors in outcomes(folder, folder / "run1", [f"--config.data.root={copy}"]):
    sentence = errors.splitlines()[-1]
    assert code == 2 and "Traceback" not in errors
    assert f'{os.path.relpath(video, copy)} (process 0: {{"frames":' in sentence
    assert "process 1: cannot be read" in sentence and "Compiled" not in errors


def test_another_manifest_is_named(folder):
  copy = elsewhere(folder, "manifest")
  text = (copy / "manifest.json").read_text()
  (copy / "manifest.json").write_text(text + "\n")
  more = [f'--config.data.train=(("{copy}/manifest.json","all"),)']
  for code, errors in outcomes(folder, folder / "run2", more):
    assert code == 2 and "in manifests: 1. manifest.json (process 0: all of" in errors


def test_a_refusal_of_one_process_ends_both(folder):
  more = ["--config.data.tokenizer=none.json"]
  for code, errors in outcomes(folder, folder / "run3", more):
    sentence = errors.splitlines()[-1]
    assert code == 2 and "process 1 (" in sentence and "No tokenizer at none.json" in sentence


def test_a_command_that_one_process_refuses_ends_both(folder):
  for code, errors in outcomes(folder, folder / "run4", ["--config.data.workers=-1"]):
    assert code == 2 and "process 1 (" in errors and "config.data.workers=-1" in errors


def test_a_process_that_converts_a_released_model_can_join(folder, monkeypatch):
  """A conversion uses jax, and a process that has used jax cannot join others any more."""
  monkeypatch.setenv("FILAX_CACHE", str(folder / "cache"))
  source = qwen2_folder.write_qwen2_folder(folder / "released")
  none = f'(("{folder}/none.json","all"),)'
  more = [f"--config.init_from={source}", f"--config.data.train={none}"]
  for code, errors in outcomes(folder, folder / "run5", more):
    assert code == 2 and "none.json" in errors.splitlines()[-1]
    assert "could not join" not in errors
