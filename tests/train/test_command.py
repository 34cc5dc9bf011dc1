# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess
import sys

import pytest

from filax.cli import config_flags, train
from filax.models import components
from filax.train import run

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f"--config={ROOT}/configs/fila_stage4.py"


def test_overrides():
  config, given = config_flags.read_config(
    [
      f"{CONFIG}:debug",
      "--workdir",
      "runs/x",
      "--config.steps=7",
      "--config.optim.warmup=2",
      '--config.data.train=(("my.json", "first:3"),)',
    ],
    workdir="",
  )
  assert given == {"workdir": "runs/x"} and config.is_locked
  assert (config.steps, config.optim.warmup) == (7, 2.0)
  assert config.data.train == (("my.json", "first:3"),)


@pytest.mark.parametrize(
  "argv, message",
  [
    ([CONFIG], "--workdir is missing"),
    (["--workdir=x"], "--config is missing"),
    ([CONFIG, "--workdir=x", "more"], "'more' is not understood"),
    ([CONFIG, "--workdir=x", "--config.stepz=3"], 'Did you mean "steps" instead of "stepz"'),
    (
      [CONFIG, "--workdir=x", "--config.steps=few"],
      r"config\.steps=few cannot .* a whole number\.",
    ),
    ([CONFIG, "--workdir=x", "--config.data.packing=no!"], "=no! cannot .* to True or False"),
    ([CONFIG, "--workdir=x", "--steps=3"], r"are set as --config\.steps=VALUE"),
    (
      [f"{CONFIG}:fast", "--workdir=x"],
      r"takes no argument 'fast'. It takes debug, mixture, packed, root\.",
    ),
    ([f"{CONFIG}:debug=2", "--workdir=x"], "debug='2' is not a bool"),
    (["--config=configs/none.py", "--workdir=x"], "There is no config configs/none.py"),
    ([CONFIG, "--workdirs=x"], "Did you mean: workdir"),
  ],
)
def test_what_does_not_fit_is_one_sentence(argv, message):
  with pytest.raises(ValueError, match=message) as error:
    config_flags.read_config(argv, workdir="where things go")
  assert "Traceback" not in str(error.value)


def test_help_teaches(capsys):
  assert train.main(["--help"]) == 0
  said = capsys.readouterr().out
  words = ("--config", "--workdir", ":debug", "filax show", "init_from", "quarantine.jsonl")
  for word in (*words, "--config.profile=10:15"):
    assert word in said


def test_the_command_ends_with_code_2_and_no_traceback(tmp_path):
  """On a manifest that does not exist."""
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "filax",
      "train",
      f"{CONFIG}:debug",
      f"--workdir={tmp_path}/run",
      "--config.debug_corpus=",
      f'--config.data.train=(("{tmp_path}/none.json","all"),)',
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2 and "Traceback" not in done.stderr
  said = done.stderr.splitlines()[-1]
  assert said.startswith("filax train: ") and ("none.json" in said or "tokenizer" in said)


@pytest.mark.parametrize(
  "changes, knob",
  [
    (dict(packing=True), r"config\.data\.packing=False"),
    (dict(time_prompt="fila"), r"config\.data\.time_prompt='fila'"),
  ],
)
def test_scene_selection_in_training_needs_single_samples(changes, knob):
  config, _ = config_flags.read_config([f"{CONFIG}:debug"])
  with config.unlocked():
    config.model.selector = dict(name="kmeans", scenes=2, size=3)
    config.data.update(changes)
  with pytest.raises(ValueError, match=knob):
    run.check_selector(config, components.build_video_lm(config.model))
