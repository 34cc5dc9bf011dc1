# SPDX-License-Identifier: Apache-2.0
import jax
import made_rows
import numpy as np
import pytest

from filax.train import checkpoint, loop

STAGE1 = {"model.projector.newline": "none", "optim.rates": (("^projector/", 1e-3), ("", 0.0))}


@pytest.fixture(scope="module")
def stage1(tmp_path_factory):
  """One step of a first stage, whose projector has no newline and alone is trained."""
  folder = tmp_path_factory.mktemp("stage1")
  loop.run(made_rows.config(steps=1, **STAGE1), folder, made_rows.Rows(8))
  return folder


def test_a_stage_starts_from_the_one_before(stage1, tmp_path, capsys):
  """The newline is new; all else is taken over, and the data starts at its first row."""
  config = made_rows.config(steps=1, init_from=str(stage1), **{"optim.rates": (("", 0.0),)})
  with config.unlocked():
    config.optim.rates = (("image_newline$", 1e-3), ("", 0.0))
  summary = loop.run(config, tmp_path, made_rows.Rows(8, fingerprint="stage 2"))
  said = capsys.readouterr().err
  assert "not in it, drawn anew: projector/image_newline" in said
  assert summary["first_step"] == 0
  before, _, _ = checkpoint.restore_params(stage1)
  after, _, _ = checkpoint.restore_params(tmp_path)
  after["projector"].pop("image_newline")
  jax.tree.map(np.testing.assert_array_equal, after, before)  # All of it is frozen here.


def test_only_the_projector_moved(stage1, tmp_path):
  loop.run(made_rows.config(
    steps=1, **STAGE1 | {"optim.rates": (("^projector/.*bias", 1e-30), ("", 0.0))}),
    tmp_path, made_rows.Rows(8))  # The same seed, practically untrained.
  fresh, _, _ = checkpoint.restore_params(tmp_path)
  trained, _, _ = checkpoint.restore_params(stage1)
  same = jax.tree.map(lambda a, b: bool((a == b).all()), fresh, trained)
  assert all(jax.tree.leaves([same["encoder"], same["merger"], same["llm"]]))
  assert not same["projector"]["linear_1"]["kernel"]


def test_what_is_too_much_is_listed(stage1, tmp_path, capsys):
  config = made_rows.config(steps=1, init_from=str(stage1 / "checkpoints" / "1"))
  with config.unlocked():
    config.model.merger = dict(name="mean")
  loop.run(config, tmp_path, made_rows.Rows(8))
  assert "in it, not used: merger/weight" in capsys.readouterr().err


def test_another_shape_is_an_error(stage1, tmp_path):
  config = made_rows.config(init_from=str(stage1))
  with config.unlocked():
    config.model.llm.mlp = 72
  with pytest.raises(ValueError, match=r"_proj/kernel has shape \(.*64.*\) .* but \(.*72.*\) in"):
    loop.run(config, tmp_path, made_rows.Rows(8))


def test_nothing_there(tmp_path):
  config = made_rows.config(init_from=str(tmp_path / "nowhere"))
  with pytest.raises(OSError, match=r"No readable checkpoint in .*nowhere"):
    loop.run(config, tmp_path, made_rows.Rows(8))
