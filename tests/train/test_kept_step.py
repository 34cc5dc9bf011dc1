# SPDX-License-Identifier: Apache-2.0
"""Runs of one process share a training step where it is the same program, and only there."""

import pytest

from filax.testing import row_source
from filax.train import setup


def kept_step(steps=4, **changes):
  config = row_source.tiny_train_config(**changes).to_dict()
  return setup.kept_train_step(config, setup.prepare(config, steps))


@pytest.fixture(scope="module")
def plain():
  return kept_step()


def test_another_seed_is_the_same_program(plain):
  assert kept_step(seed=1, log_every=7, checkpoint_every=3) is plain


@pytest.mark.parametrize(
  "changes",
  [
    dict(steps=5),
    {"optim.clip": 0.5},
    {"optim.loss_chunk": 16},
    {"model.llm.remat": "attn"},
    {"mesh.fsdp": 2},
    {"batch": 16, "optim.accumulate": 2},
  ],
  ids=str,
)
def test_another_setting_is_another_program(plain, changes):
  assert kept_step(**changes) is not plain
