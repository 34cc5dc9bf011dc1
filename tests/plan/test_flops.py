# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from filax import costs as flops
from filax.configs import fila_stage1, fila_stage4
from filax.models import components
from filax.train import optim


def costs(config):
  model = components.build_video_lm(config.model)
  shapes = components.parameter_shapes(model)
  rates = optim.make_optimizer(config.optim.to_dict(), shapes, 1000).rates
  return flops.train_costs(model, shapes, rates)


def test_all_trained():
  """6 a weight of Qwen2-7B, and three times the published 0.642 TFLOP of a frame of the tower."""
  got = costs(fila_stage4.get_config())
  table = 152_064 * 3584
  norms = 57 * 3584
  biases = 28 * (3584 + 2 * 512)
  assert got.token == 6 * (7_615_616_512 - table - norms - biases)
  assert got.pair == 3 * 4 * 28 * 28 * 128
  projector = 1152 * 3584 + 3584 * 3584
  assert got.frame - 6 * projector * 729 / 3 == pytest.approx(3 * 0.642e12, rel=1e-3)
  assert got.image - got.frame == pytest.approx(6 * projector * 729 * 2 / 3)


def test_frozen_parts_cost_less():
  """Stage 1: the tower runs forward only; through the language model a gradient passes."""
  stage1 = costs(fila_stage1.get_config())
  stage4 = costs(fila_stage4.get_config())
  projector = 1152 * 3584 + 3584 * 3584
  assert stage1.frame - 6 * projector * 729 / 3 == pytest.approx(0.642e12, rel=1e-3)
  assert stage1.token == pytest.approx(stage4.token * 4 / 6)
  assert stage1.pair == stage4.pair


def test_tied_head_counts_once():
  config = fila_stage4.get_config("debug")
  with config.unlocked():
    untied = costs(config)
    config.model.llm.tied = True
  assert costs(config).token == untied.token


def test_projector_before_the_merger_sees_every_frame():
  config = fila_stage4.get_config("debug")
  first = costs(config)
  with config.unlocked():
    config.model.merge_stage = "projector"
  weights = 32 * 32 + 32 * 32
  assert costs(config).frame - first.frame == pytest.approx(6 * weights * math.prod((3, 3)) * 2 / 3)
