# SPDX-License-Identifier: Apache-2.0
"""The step folders of a run."""

import pytest

from filax.checkpoint import run_folder


@pytest.fixture
def run(tmp_path):
  for name in ("0", "9", "10", "7.damaged"):
    (tmp_path / "run" / "checkpoints" / name / "state").mkdir(parents=True)
  return tmp_path / "run"


def names(path):
  return [step.name for step in run_folder.step_folders(path)]


def test_the_newest_step_comes_first(run):
  assert names(run) == names(run / "checkpoints") == ["10", "9", "0"]


def test_a_step_is_the_only_one_of_itself(run):
  assert names(run / "checkpoints" / "9") == ["9"]


def test_there_are_no_steps_in_a_file_or_a_missing_folder(run):
  (run / "config.json").write_text("{}")
  assert names(run / "config.json") == names(run / "nothing") == []
