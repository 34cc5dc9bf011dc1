# SPDX-License-Identifier: Apache-2.0
"""The shapes of the largest evaluation, by arithmetic on configs."""

from types import SimpleNamespace

import pytest

from filax.configs import vcf_stage3, vcf_toy
from filax.models.components import build_video_lm
from filax.plan import evaluation
from filax.plan.evaluation import EvaluationDemand


def mesh(data, fsdp):
  return SimpleNamespace(shape=dict(data=data, fsdp=fsdp, seq=1, tensor=1))


def shape(config, *demands, rows=(1, 1)):
  model = build_video_lm(config.model, config.infer.selector)
  return evaluation.evaluation_shape(config.to_dict(), model, mesh(*rows), demands)


@pytest.fixture(scope="module")
def toy():
  return vcf_toy.get_config("stage=4")


def test_a_prompt_holds_all_frames_and_the_words(toy):
  made = shape(toy, EvaluationDemand())
  assert (made.frames, made.table) == (256, 256 * 2 + 1)
  assert made.positions >= 256 * 2 + evaluation.WORDS


def test_the_largest_demand_counts(toy):
  made = shape(toy, EvaluationDemand(frames=64), EvaluationDemand(512, 300), EvaluationDemand())
  assert (made.frames, made.new_tokens) == (512, 320)


@pytest.mark.parametrize("rows, prompts", [((1, 1), 8), ((2, 3), 12), ((1, 64), 64)])
def test_prompts_are_whole_rows_of_the_mesh(toy, rows, prompts):
  assert shape(toy, EvaluationDemand(), rows=rows).prompts == prompts


def test_a_long_video_is_encoded_in_parts():
  config = vcf_stage3.get_config()
  made = shape(config, EvaluationDemand(frames=10_000))
  size = build_video_lm(config.model, config.infer.selector).encoder.size
  assert made.frames * size**2 * 3 <= 1 << 30
  assert made.table > 10_000


def test_smaller_shapes_are_named(toy):
  setup = SimpleNamespace(mesh=mesh(1, 2))
  knobs = evaluation.smaller_evaluation(toy.to_dict(), setup)
  assert knobs[0].startswith("config.evals_batch=2:")
