# SPDX-License-Identifier: Apache-2.0
"""A real `filax train` on real videos, killed at moments nobody chose, against one that was not."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from compile_flags import QUICK
import pytest

from data_pipelines.synthesis import toy

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("resume")
  toy.tiny_corpus(folder / "corpus")
  return folder


def command(folder, workdir, *more):
  corpus = folder / "corpus"
  return [
    sys.executable,
    "-m",
    "filax",
    "train",
    "--config",
    "configs/fila_stage4.py:debug,packed",
    "--workdir",
    str(workdir),
    f"--config.steps={STEPS}",
    "--config.checkpoint_every=3",
    "--config.debug_corpus=",
    f'--config.data.train=(("{corpus}/manifest.json","all"),)',
    f"--config.data.tokenizer={corpus}/tokenizer.model",
    *more,
  ]


def environment():
  return os.environ | dict(JAX_PLATFORMS="cpu", XLA_FLAGS=QUICK)


def start(folder, workdir, *more):
  return subprocess.Popen(
    command(folder, workdir, *more),
    cwd=ROOT,
    env=environment(),
    text=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
  )


def finish(process):
  _, said = process.communicate(timeout=300)
  assert process.returncode == 0, said
  return said


def records(workdir):
  path = workdir / "metrics.jsonl"
  found = []
  for text in path.read_text().splitlines() if path.exists() else []:
    try:
      found.append(json.loads(text))
    except ValueError:
      pass  # A line that is being written.
  return found


def reach(process, workdir, step):
  """Returns when the run has logged `step`."""
  while not any(r["step"] >= step for r in records(workdir)):
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.005)


def numbers(workdir):
  keys = ("step", "loss", "grad_norm", "accuracy", "supervised", "tokens", "frames", "lr/llm")
  return [{key: r[key] for key in keys} for r in records(workdir)]


@pytest.fixture(scope="module")
def whole(folder):
  """The workdir of a run that nothing disturbed."""
  finish(start(folder, folder / "whole"))
  return folder / "whole"


def test_killed_runs_give_the_losses_of_one_that_was_not(folder, whole):
  killed = folder / "killed"
  assert [r["step"] for r in records(whole)] == list(range(1, STEPS + 1))

  moment = random.SystemRandom()
  for low, high in ((1, 4), (5, 8)):  # Threads of the loader differ between the runs.
    process = start(folder, killed, f"--config.data.threads={low % 4 + 1}")
    reach(process, killed, moment.randint(low, high))
    time.sleep(moment.random() * 0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL

  process = start(folder, killed)
  reach(process, killed, 10)
  process.send_signal(signal.SIGTERM)  # The polite way saves and ends well.
  said = finish(process)
  assert "Resuming at step" in said and "SIGTERM: saving" in said and "Stopped at step" in said
  step = records(killed)[-1]["step"]
  assert (killed / "checkpoints" / str(step)).exists() and step < STEPS

  said = finish(start(folder, killed, "--config.data.workers=1"))
  assert f"Resuming at step {step}," in said
  assert numbers(killed) == numbers(whole)


def test_the_run_folder_is_complete(whole):
  """What `filax chat` and a next stage need is in it."""
  assert {"checkpoints", "config.json", "metrics.jsonl", "tensorboard", "tokenizer.model"} <= {
    path.name for path in whole.iterdir()
  }
  assert json.loads((whole / "config.json").read_text())["steps"] == STEPS


def test_another_manifest_is_another_plan(folder, whole):
  corpus = folder / "corpus"
  rows = json.loads((corpus / "manifest.json").read_text())
  (corpus / "fewer.json").write_text(json.dumps(rows[:-1]))
  process = start(folder, whole, f'--config.data.train=(("{corpus}/fewer.json","all"),)')
  _, said = process.communicate(timeout=300)
  assert process.returncode == 2 and "Traceback" not in said
  assert "config.ignore_fingerprint=True" in said.splitlines()[-1]
