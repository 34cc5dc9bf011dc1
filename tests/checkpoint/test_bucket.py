# SPDX-License-Identifier: Apache-2.0
"""Workdirs on gs://, against an emulator: checkpoints, errors, and a real run that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import bucket
from compile_flags import QUICK
import pytest

from data_pipelines.synthesis import toy

pytestmark = pytest.mark.slow

STEPS = 8
SCRIPT = bucket.ROOT / "tests" / "train" / "save_until_full.py"


@pytest.fixture(scope="module")
def env():
  with bucket.emulator() as env:
    yield env | dict(XLA_FLAGS=QUICK)


def read(env, name):
  """An object of the bucket; empty if there is none."""
  quoted = urllib.parse.quote(name, safe="")
  url = f"{env['STORAGE_EMULATOR_HOST']}/download/storage/v1/b/tests/o/{quoted}?alt=media"
  try:
    with urllib.request.urlopen(url, timeout=10) as answer:
      return answer.read().decode()
  except OSError:
    return ""


def test_checkpoints_are_written_and_read(env):
  """The newest of two is kept, checked and restored; nothing but that is printed."""
  done = subprocess.run(
    [sys.executable, str(SCRIPT), "gs://tests/saved", "2", "2"],
    cwd=bucket.ROOT,
    env=env,
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
  assert json.loads(read(env, "saved/checkpoints/2/data/metadata"))["row"] == 8
  assert not read(env, "saved/checkpoints/1/data/metadata")


def train(folder, workdir, env, **keys):
  corpus = folder / "corpus"
  keys = {
    "steps": STEPS,
    "checkpoint_every": 2,
    "debug_corpus": "",
    "data.train": f'(("{corpus}/manifest.json","all"),)',
    "data.tokenizer": f"{corpus}/tokenizer.model",
  } | keys
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "filax",
      "train",
      "--config",
      "configs/fila_stage4.py:debug,packed",
      "--workdir",
      workdir,
      *(f"--config.{key}={value}" for key, value in keys.items()),
    ],
    cwd=bucket.ROOT,
    env=env,
    text=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
  )


def test_a_bucket_that_is_missing(env, tmp_path):
  """One sentence before the corpus, which is missing as well, is looked at."""
  process = train(tmp_path, "gs://absent/run", env)
  _, said = process.communicate(timeout=120)
  assert process.returncode == 2
  assert "--workdir gs://absent/run cannot be written: there is no such bucket." in said
  assert "Traceback" not in said and "corpus" not in said


@pytest.mark.long
def test_a_run_on_a_bucket_is_killed_and_goes_on(env, tmp_path):
  """Its losses are those of a run on a disk that nothing disturbed."""
  toy.tiny_corpus(tmp_path / "corpus")
  home = env | dict(HOME=str(tmp_path / "home"))
  process = train(tmp_path, "gs://tests/run", home)
  while not read(env, "run/checkpoints/4/data/metadata"):
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.02)
  os.kill(process.pid, signal.SIGKILL)
  process.communicate()
  process = train(tmp_path, "gs://tests/run", home | dict(HOME=str(tmp_path / "another")))
  _, said = process.communicate(timeout=600)
  assert process.returncode == 0, said
  assert "Resuming at step" in said and "gs://tests/run/checkpoints/8" in said
  process = train(tmp_path, str(tmp_path / "disk"), home)
  _, said = process.communicate(timeout=600)
  assert process.returncode == 0, said
  on_disk = (tmp_path / "disk" / "metrics.jsonl").read_text()
  losses = [
    [json.loads(line)["loss"] for line in text.splitlines()]
    for text in (read(env, "run/metrics.jsonl"), on_disk)
  ]
  assert len(losses[0]) == STEPS and losses[0] == losses[1]
