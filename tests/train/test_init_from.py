# SPDX-License-Identifier: Apache-2.0
import os
import signal

import jax
import numpy as np
import pytest

from filax.checkpoint import store
from filax.testing import row_source
from filax.train import loop

pytestmark = pytest.mark.slow

STAGE1 = {"model.projector.newline": "none", "optim.rates": (("^projector/", 1e-3), ("", 0.0))}


def begin(config, folder, fingerprint="made"):
  """Starts and stops before the first step: the checkpoint of step 0 is what a run starts from."""

  def stop(number, made):
    if number == 0:
      os.kill(os.getpid(), signal.SIGTERM)
    return made

  rows = row_source.RandomRows(8, fingerprint, change=stop)
  assert loop.train_pipeline(config, folder, rows)["steps"] == 0
  return store.restore_params(folder)[0]


@pytest.fixture(scope="module")
def stage1(tmp_path_factory):
  """One step of a first stage, whose projector has no newline and alone is trained."""
  folder = tmp_path_factory.mktemp("stage1")
  loop.train_pipeline(
    row_source.tiny_train_config(steps=1, **STAGE1), folder, row_source.RandomRows(8)
  )
  return folder


def test_a_stage_starts_from_the_one_before(stage1, tmp_path, capsys):
  """The newline is new; all else is taken over, and the data starts at its first row."""
  config = row_source.tiny_train_config(init_from=str(stage1))
  after = begin(config, tmp_path, "the plan of stage 2")
  assert "not in it, drawn anew: projector/image_newline" in capsys.readouterr().err
  before, _, _ = store.restore_params(stage1)
  assert after["projector"].pop("image_newline").std() > 0
  jax.tree.map(np.testing.assert_array_equal, after, before)


def test_only_the_projector_moved(stage1, tmp_path):
  fresh = begin(
    row_source.tiny_train_config(steps=1, **STAGE1), tmp_path
  )  # The same seed, no step.
  trained, _, _ = store.restore_params(stage1)
  same = jax.tree.map(lambda a, b: bool((a == b).all()), fresh, trained)
  assert all(jax.tree.leaves([same["encoder"], same["merger"], same["llm"]]))
  assert not same["projector"]["linear_1"]["kernel"]


def test_what_is_too_much_is_listed(stage1, tmp_path, capsys):
  config = row_source.tiny_train_config(steps=1, init_from=str(stage1 / "checkpoints" / "1"))
  with config.unlocked():
    config.model.merger = dict(name="mean")
  assert "merger" not in begin(config, tmp_path)
  assert "in it, not used: merger/weight" in capsys.readouterr().err


def test_another_shape_is_an_error(stage1, tmp_path):
  config = row_source.tiny_train_config(init_from=str(stage1))
  with config.unlocked():
    config.model.llm.mlp = 72
  with pytest.raises(ValueError, match=r"_proj/kernel has shape \(.*64.*\) .* but \(.*72.*\) in"):
    loop.train_pipeline(config, tmp_path, row_source.RandomRows(8))


def test_nothing_there(tmp_path):
  config = row_source.tiny_train_config(init_from=str(tmp_path / "nowhere"))
  with pytest.raises(OSError, match=r"No readable checkpoint in .*nowhere"):
    loop.train_pipeline(config, tmp_path, row_source.RandomRows(8))


def test_settings_that_weights_do_not_show_are_named(stage1, tmp_path, capsys):
  config = row_source.tiny_train_config(init_from=str(stage1))
  with config.unlocked():
    config.model.llm.theta = 123.0
  begin(config, tmp_path)
  shown = capsys.readouterr().err
  assert f"config.model.llm.theta is 123.0, but {stage1} was trained with " in shown
  assert "config.model.encoder" not in shown
