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
    (
      [CONFIG, "--config.steps", "--workdir", "x"],
      r"--config\.steps is missing its value: a whole number of 0 or more.* Write --config",
    ),
    ([CONFIG, "--config.init_from", "--workdir=x"], r"--config\.init_from is missing its value"),
    ([CONFIG, "--workdir", "--config.steps=3"], "--workdir is missing its value: where things go"),
    ([CONFIG, "--workdir=x", "--config.seed"], r"--config\.seed is missing its value"),
    (["--config", "--workdir=x"], "--config is missing its value: a config file"),
    (["--config=", "--workdir=x"], "--config is missing: a config file"),
    ([CONFIG, "--workdir=x", "--config.data.packing", "False"], r"by --config\.KEY=False"),
    ([CONFIG, "--workdir=x", "--config.optim=4"], "is not a group of settings. Set those below it"),
    ([CONFIG, "--workdir=x", "--config.data.train=((1,"], r"data\.train='\(\(1,' cannot be used"),
  ],
)
def test_what_does_not_fit_is_one_sentence(argv, message):
  with pytest.raises(ValueError, match=message) as error:
    config_flags.read_config(argv, workdir="where things go")
  assert "Traceback" not in str(error.value)


def test_a_switch_and_a_value_with_one_dash():
  words = [f"{CONFIG}:debug", "--config.best", "-eval/x/loss", "--config.data.packing"]
  config, _ = config_flags.read_config(words)
  assert config.best == "-eval/x/loss" and config.data.packing is True


def test_an_option_of_the_command_does_not_take_the_next_one():
  assert train.split_option(["--base", "--workdir=x"], "--base", "") == (["--workdir=x"], "")
  assert train.split_option(["--base", "x", "y"], "--base", "") == (["y"], "x")


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
    (dict(rows=((12, 0, 128, 1),)), "every video must have 6 frames"),
    (dict(sampling=dict(frames=3)), "every video must have 6 frames"),
    (dict(sampling=dict(name="dynamic_fps")), "every video must have 6 frames"),
  ],
)
def test_scene_selection_in_training_needs_single_samples(changes, knob):
  config, _ = config_flags.read_config([f"{CONFIG}:debug"])
  with config.unlocked():
    config.model.selector = dict(name="kmeans", scenes=2, size=3)
    model = components.build_video_lm(config.model)
    run.check_selector(config, model)
    config.data.update(changes)
  with pytest.raises(ValueError, match=knob):
    run.check_selector(config, model)
