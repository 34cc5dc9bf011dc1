# SPDX-License-Identifier: Apache-2.0
"""An edited config.json has no effect, and is not ignored without a word."""

import json

import pytest

import filax
from filax.checkpoint import config_changes, orbax_items, steps, store
from filax.testing import tiny_checkpoint
from filax.train import setup


@pytest.fixture
def run(tmp_path):
  """A run with a config.json, as training leaves it, and its config."""
  folder = tiny_checkpoint.write_checkpoint(tmp_path / "run")
  config = store.read_config(folder)
  (tmp_path / "run/config.json").write_text(json.dumps(config))
  return tmp_path / "run", config


def edit(folder, group, key, value):
  config = json.loads((folder / "config.json").read_text())
  config[group][key] = value
  (folder / "config.json").write_text(json.dumps(config))


def test_loading_names_edits(run, capsys):
  folder, config = run
  filax.load(folder)
  assert "config.json" not in capsys.readouterr().err
  edit(folder, "infer", "max_new_tokens", 3)
  session = filax.load(folder)
  before = config["infer"]["max_new_tokens"]
  assert f"config.infer.max_new_tokens was {before} and is 3." in capsys.readouterr().err
  assert session.processor.infer["max_new_tokens"] == before


@pytest.mark.parametrize("content", [None, "", "{", "[]", "3"])
def test_a_damaged_config_json_is_no_edit(content, run, capsys):
  folder, config = run
  (folder / "config.json").unlink()
  if content is not None:
    (folder / "config.json").write_text(content)
  (step,) = steps.newest_first(folder)
  assert config_changes.edits(step, config, ("infer",)) == []
  setup.report_changes(config, config, folder)
  assert capsys.readouterr().err == ""


def test_training_names_edits_that_are_lost(run, capsys):
  folder, config = run
  edit(folder, "optim", "warmup", 0.5)
  now = config | dict(seed=7)
  setup.report_changes(config, now, folder)
  said = capsys.readouterr().err
  assert f"  config.seed was {config['seed']} and is 7.\n" in said
  assert "written anew, and its own settings do not count: config.optim.warmup was 0.5" in said
  assert said.count("config.seed") == 1


def test_the_steps_of_a_folder_are_its_numbers(tmp_path):
  for name in ("12", "3", "4.damaged", "5.orbax-checkpoint-tmp", "notes"):
    (tmp_path / name).mkdir()
  assert orbax_items.complete_steps(tmp_path) == [3, 12]
  assert orbax_items.complete_steps(tmp_path / "none") == []
