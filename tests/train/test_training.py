# SPDX-License-Identifier: Apache-2.0
"""filax.run_training: from Python, all that `filax train` does."""

import json
import pathlib
import signal

from ml_collections import FrozenConfigDict
import pytest

import filax
from filax import training
from filax.evals.during_training import TrainingEvaluations
from filax.testing import manifests, tiny_checkpoint
from filax.train.hooks import Hook


@pytest.fixture
def started(monkeypatch):
  """What reaches the loop, which does not run."""
  calls = []

  def train(config, workdir, signals, hooks, check):
    signals.defer()
    calls.append((config, workdir, hooks))
    return dict(stopped=signals.received)

  monkeypatch.setattr(training, "train", train)
  return calls


@pytest.fixture
def config():
  return filax.load_config("fila_toy:debug")


def test_a_run_begins_as_that_of_the_command(started, config, tmp_path):
  model = tiny_checkpoint.write_checkpoint(tmp_path / "model", **{"model.llm.vocab": 576})
  held = manifests.write_manifest(tmp_path / "held.json", [])
  (tmp_path / "held.json").write_text(json.dumps([manifests.question_record("Q?", "a")]))
  config.init_from = str(model)
  config.evals = ((str(held), 2, 0),)
  before = config.to_dict()
  mine = Hook()
  filax.run_training(config, tmp_path / "run", hooks=[mine])
  ((given, workdir, hooks),) = started
  assert given.model.llm.vocab == 576 and given.data.tokenizer == str(model)
  assert isinstance(hooks[0], TrainingEvaluations) and hooks[1:] == [mine]
  assert workdir == str(tmp_path / "run")
  assert config.to_dict() == before


def test_dicts_and_frozen_configs_and_paths_are_taken(started, config, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  config.data.train = ((pathlib.Path("~/my.json"), "all"),)
  filax.run_training(config, tmp_path)
  filax.run_training(FrozenConfigDict(config), tmp_path)
  filax.run_training(json.loads(json.dumps(started[0][0].to_dict())), tmp_path)
  for given, _, _ in started:
    assert given.data.train == ((f"{tmp_path}/my.json", "all"),)
    assert given.to_dict() == started[0][0].to_dict()


def test_what_cannot_be_trained_is_named_before_the_run(started, config, tmp_path):
  with config.unlocked():
    config.wramup = 3
  with pytest.raises(ValueError, match=r"config\.wramup is set, but there is no such setting"):
    filax.run_training(config, tmp_path)
  assert not started


def test_a_config_may_be_a_name_but_a_workdir_not_empty(started, config, tmp_path):
  filax.run_training("fila_toy:debug", tmp_path)
  assert started[0][0].to_dict() == config.to_dict()
  with pytest.raises(ValueError, match="workdir is empty"):
    filax.run_training(config, "")


def test_a_second_run_at_the_same_time_is_refused(started, config, tmp_path, monkeypatch):
  train = training.train

  def starts_another(*arguments):
    with pytest.raises(ValueError, match="Another run of this process is still going on"):
      filax.run_training(config, tmp_path / "other")
    return train(*arguments)

  monkeypatch.setattr(training, "train", starts_another)
  filax.run_training(config, tmp_path)
  monkeypatch.setattr(training, "train", train)
  filax.run_training(config, tmp_path)
  assert len(started) == 2


def test_ctrl_c_ends_the_caller_after_the_save(started, config, tmp_path, monkeypatch):
  train = training.train

  def stopped(config, workdir, signals, hooks, check):
    train(config, workdir, signals, hooks, check)
    signal.raise_signal(signal.SIGINT)
    started.append("saved")

  monkeypatch.setattr(training, "train", stopped)
  handler = signal.getsignal(signal.SIGINT)
  with pytest.raises(KeyboardInterrupt):
    filax.run_training(config, tmp_path)
  assert started[-1] == "saved" and signal.getsignal(signal.SIGINT) is handler


def test_a_config_of_ones_own_has_arguments(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    "from configs import common\n"
    "def get_config(arg='none'):\n"
    "  config = common.base()\n"
    "  config.my_lab = dict(arg=arg)\n"
    "  return config\n"
  )
  assert filax.load_config(file).my_lab.arg == "none"
  config = filax.load_config(f"{file}:fast")
  assert config.my_lab.arg == "fast"
  with pytest.raises(AttributeError, match='Did you mean "steps"'):
    config.stepz = 3
  file.write_text("def get_configs(): pass\n")
  with pytest.raises(ValueError, match=r"mine\.py is not a config: it has no get_config"):
    filax.load_config(file)


@pytest.mark.parametrize("name", ["nowhere/none.py", "none", "", "."])
def test_a_config_that_is_not_there_is_named(name):
  with pytest.raises(ValueError, match=r"There is no config"):
    filax.load_config(name)
