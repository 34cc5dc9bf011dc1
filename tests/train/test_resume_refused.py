# SPDX-License-Identifier: Apache-2.0
"""A run that cannot go on with another config says which setting changed, and loses nothing."""

import jax
import pytest

from filax.checkpoint import base, store
from filax.testing import row_source
from filax.train import loop

pytestmark = pytest.mark.slow


def train(folder, **changes):
  config = row_source.tiny_train_config(batch=2, steps=1, **changes)
  rows = row_source.RandomRows(2)
  loop.train_pipeline(config, folder, rows, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  train(folder)
  return folder


@pytest.mark.parametrize(
  "changes, sentence",
  [
    ({"optim.kind": "lion"}, "config.optim.kind was adamw and is lion"),
    ({"optim.ema": 0.9}, "config.optim.ema was 0.0 and is 0.9"),
    ({"optim.rates": (("^llm/", 0.0), ("", 1e-3))}, r"config.optim.rates was .* and is \[\['\^llm"),
  ],
)
def test_the_changed_setting_is_named(run_folder, changes, sentence):
  before = base.checkpoint_hash(store.newest_step(run_folder))
  with pytest.raises(ValueError, match=rf"/1 is not of this config: .*{sentence}.*init_from="):
    train(run_folder, **changes)
  assert base.checkpoint_hash(store.newest_step(run_folder)) == before


def test_a_run_without_a_step_left_says_why(run_folder, capsys):
  train(run_folder)
  assert "config.steps ends at step 1, and this run is at step 1" in capsys.readouterr().err
