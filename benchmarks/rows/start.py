# SPDX-License-Identifier: Apache-2.0
"""Starting: import, the first training step, the first answer, the first step after a kill.

Each repetition is a process of its own. The first one, which is not counted, fills the disk's cache
and the compilation cache; `first` beside the figures is its time.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side
from benchmarks.rows.decode import TORCH

ROOT = pathlib.Path(__file__).parents[2]


def _run_python(code: str, *words: str) -> float:
  """Seconds of a Python process."""
  start = time.perf_counter()
  command = [sys.executable, "-c", code, *words]
  subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
  return time.perf_counter() - start


def _import(code: str):
  def prepare_import(module: str) -> Repetition:
    del module
    return lambda: dict(seconds=_run_python(code))

  return prepare_import


_OUR_IMPORT = "import filax; filax.load; filax.build_video_lm"
_THEIR_IMPORT = "import torch, transformers; transformers.Qwen2ForCausalLM"


def _train_command(folder: pathlib.Path, config: str) -> list[str]:
  command = [sys.executable, "-m", "filax", "train", "--config", f"configs/{config}"]
  corpus = f"--config.debug_corpus={folder / 'corpus'}"
  data = [
    f'--config.data.train=(("{folder}/corpus/manifest.json","all"),)',
    f"--config.data.tokenizer={folder}/corpus/tokenizer.model",
  ]
  return [*command, "--workdir", str(folder / "run"), corpus, *data]


def _until_step(command: list[str], workdir: pathlib.Path, step: int) -> float:
  """Seconds until a training process logs a step; kills it."""
  log = workdir / "metrics.jsonl"
  start = time.perf_counter()
  with (workdir.parent / "train.log").open("w") as output:
    process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    while process.poll() is None and _last_step(log) < step:
      time.sleep(0.02)
    seconds = time.perf_counter() - start
    logged = _last_step(log)
    process.send_signal(signal.SIGKILL)
    process.wait()
  if logged < step:
    text = (workdir.parent / "train.log").read_text(errors="replace")
    raise RuntimeError(f"The run ended before step {step}: {text[-300:]}")
  return seconds


def _last_step(log: pathlib.Path) -> int:
  """The newest step of metrics.jsonl; -1 without one."""
  newest = -1
  if not log.exists():
    return newest
  for line in log.read_text(errors="replace").splitlines():
    try:
      newest = max(newest, int(json.loads(line).get("step", -1)))
    except ValueError:  # Half a line.
      continue
  return newest


def _first_step(config: str) -> Repetition:
  import shutil

  from benchmarks.scratch import empty_folder

  folder = empty_folder("first-step")

  def start_training():
    shutil.rmtree(folder / "run", ignore_errors=True)
    (folder / "run").mkdir()
    return dict(seconds=_until_step(_train_command(folder, config), folder / "run", 1))

  return start_training


def _after_kill(config: str) -> Repetition:
  from benchmarks.scratch import empty_folder

  folder = empty_folder("after-kill")
  (folder / "run").mkdir()
  command = [*_train_command(folder, config), "--config.steps=100000"]
  _until_step(command, folder / "run", 3)  # A checkpoint is written every 2 steps.

  def resume():
    before = _last_step(folder / "run/metrics.jsonl")
    return dict(seconds=_until_step(command, folder / "run", before + 1))

  return resume


_ANSWER = """
import sys
import filax
session = filax.load(sys.argv[1])
print(session.ask(sys.argv[2], "What shape is on red?", max_new_tokens=8))
"""


def _first_answer(model: str) -> Repetition:
  del model
  from benchmarks.scratch import empty_folder, moving_video
  from filax.testing import tiny_checkpoint

  folder = empty_folder("first-answer")
  checkpoint = tiny_checkpoint.write_checkpoint(folder / "run")
  video = moving_video(300)
  os.sync()
  return lambda: dict(seconds=_run_python(_ANSWER, checkpoint, video))


ROWS = (
  BenchmarkRow(
    "start_import",
    "import in a new process, until a model can be built",
    "s",
    (Side(OURS, _import(_OUR_IMPORT)), Side("transformers", _import(_THEIR_IMPORT), TORCH)),
    shapes=(dict(module="model"),),
  ),
  BenchmarkRow(
    "start_training",
    "from the command to the first logged training step, debug size",
    "s",
    (Side(OURS, _first_step),),
    shapes=(dict(config="fila_stage4.py:debug"),),
    repeats=3,
  ),
  BenchmarkRow(
    "start_after_kill",
    "from a killed run's command to its next logged step, debug size",
    "s",
    (Side(OURS, _after_kill),),
    shapes=(dict(config="fila_stage4.py:debug"),),
    repeats=3,
  ),
  BenchmarkRow(
    "start_answer",
    "from a new process to the answer about a 30-second clip, tiny model",
    "s",
    (Side(OURS, _first_answer),),
    shapes=(dict(model="tiny"),),
    repeats=3,
  ),
)
