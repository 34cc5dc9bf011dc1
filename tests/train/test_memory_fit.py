# SPDX-License-Identifier: Apache-2.0
"""The choice for "auto", by table: from the memory of a device, without one."""

import dataclasses

import pytest

from filax.configs import fila_stage4
from filax.models import components
from filax.spec import RowShape
from filax.train import memory_fit, optim
from filax.train.chips import CHIPS, GIB
from filax.train.memory_estimate import MARGIN, Policy, StepFacts, largest_bytes

OPEN = memory_fit.Open("auto", "auto", None)
MESH = dict(data=1, fsdp=16, seq=4, tensor=1)


@pytest.fixture(scope="module")
def facts():
  """FiLA-Video's stage 4 on v5p:4x4x4, everything trained: 8 rows a device."""
  config = fila_stage4.get_config().to_dict()
  model = components.build_video_lm(config["model"])
  shapes = components.parameter_shapes(model)
  rates = optim.make_optimizer(config["optim"], shapes, 1000).rates
  rows = (RowShape(96, 0, 8192, 1), RowShape(96, 0, 16_384, 1))
  return StepFacts(model, shapes, rates, MESH, rows, 128, 1.65 * GIB, 1024)


@pytest.mark.parametrize(
  "gib, policy",
  [
    (1000.0, Policy("products", "products", 1)),
    (95.74, Policy("products", "products", 4)),  # v5p
    (45.0, Policy("products", "products", 8)),
    (20.0, Policy("attn", "attn_qkv", 8)),
    (5.0, Policy("nothing", "nothing", 8)),  # Does not fit: the smallest.
  ],
)
def test_more_memory_repeats_less_and_gathers_less_often(facts, gib, policy):
  fit = memory_fit.choose(facts, OPEN, gib * GIB)
  assert fit.policy == policy
  assert fit.has_room == (gib > 5.0)


def test_what_is_set_stays(facts):
  wanted = memory_fit.Open("nothing", "auto", 8)
  policy = memory_fit.choose(facts, wanted, CHIPS["v5p"].hbm).policy
  assert policy == Policy("nothing", "products", 8)


def test_a_frozen_encoder_keeps_nothing(facts):
  rates = {path: 0.0 if path.startswith("encoder/") else rate for path, rate in facts.rates.items()}
  frozen = dataclasses.replace(facts, rates=rates)
  assert memory_fit.choose(frozen, OPEN, CHIPS["v5p"].hbm).policy.encoder == "nothing"


def test_the_margin_stays_free(facts):
  policy = Policy("products", "products", 4)
  needed = largest_bytes(facts, policy).peak * (1 + MARGIN)
  assert memory_fit.choose(facts, OPEN, needed).policy == policy
  assert memory_fit.choose(facts, OPEN, needed - 1).policy != policy


def test_an_earlier_choice_stays_while_it_fits(facts):
  earlier = Policy("nothing", "attn", 8)
  fit = memory_fit.keep_or_choose(facts, OPEN, CHIPS["v5p"].hbm, earlier)
  assert fit.policy == earlier and not fit.note
  wanted = dataclasses.replace(OPEN, llm="products")
  assert memory_fit.keep_or_choose(facts, wanted, CHIPS["v5p"].hbm, earlier).policy == Policy(
    "nothing", "products", 8
  )


def test_a_choice_that_no_longer_fits_is_given_up_with_a_reason(facts):
  earlier = Policy("products", "products", 4)
  fit = memory_fit.keep_or_choose(facts, OPEN, CHIPS["v6e"].hbm, earlier)
  assert fit.has_room and fit.policy != earlier
  assert "llm.remat=products" in fit.note and "too much here" in fit.note
  odd = dataclasses.replace(earlier, parts=3)
  fit = memory_fit.keep_or_choose(facts, OPEN, CHIPS["v5p"].hbm, odd)
  assert "accumulate=3" in fit.note and "8 rows" in fit.note
