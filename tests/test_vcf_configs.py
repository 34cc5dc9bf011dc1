# SPDX-License-Identifier: Apache-2.0
"""The stages of VideoChat-Flash: sizes, and what learns at which rate, as released."""

import importlib

from absl import logging
import jax
import pytest

from data_pipelines.loader import Pipeline, make_plan
from data_pipelines.packing import frame_sampling, planner
from data_pipelines.synthesis import toy
from filax.infer import video
from filax.models import components
from filax.train import loop, optim

ARGS = ("", "model=2B", "encoder=internvideo2")
VISION = {"L-224": 290_479_104, "L-448": 290_479_104}
CONNECTOR = {"": 16_522_240, "model=2B": 3_935_232, "encoder=internvideo2": 17_898_496}
RATES = {  # Encoder, connector, llm, samples a step.
  1: (0, 1e-3, 0, 512),
  2: (2e-6, 1e-5, 1e-5, 256),
  3: (2e-6, 1e-5, 1e-5, 256),
  4: (2e-6, 1e-5, 0, 256),
}
FRAMES = {1: (4, None), 2: (8, 1), 3: (512, 64), 4: (512, 64)}


def config(stage, arg=""):
  return importlib.import_module(f"filax.configs.vcf_stage{stage}").get_config(arg or None)


@pytest.mark.parametrize("arg", ARGS)
def test_sizes_are_those_released(arg):
  c = config(3, arg)
  shapes = components.parameter_shapes(components.build_video_lm(c.model))
  count = {role: sum(x.size for x in jax.tree.leaves(tree)) for role, tree in shapes.items()}
  assert count["projector"] == CONNECTOR[arg] and "merger" not in count
  if arg != "encoder=internvideo2":
    assert count["encoder"] == VISION[c.model.encoder.variant]
  assert (
    c.model.encoder.get("variant")
    == {"": "L-224", "model=2B": "L-448", "encoder=internvideo2": "1B"}[arg]
  )


@pytest.mark.parametrize("stage", RATES)
def test_rates_batch_and_frames_are_those_released(stage):
  c = config(stage)
  shapes = components.parameter_shapes(components.build_video_lm(c.model))
  rates = optim.make_optimizer(c.optim.to_dict(), shapes, 1000).rates

  def of(role):
    return {rate for path, rate in rates.items() if path.startswith(role)}

  encoder, connector, llm, batch = RATES[stage]
  assert (of("encoder"), of("projector"), of("llm")) == ({encoder}, {connector}, {llm})
  assert (c.batch, c.epochs, c.seed, c.optim.warmup) == (batch, 1, 42, 0.03)
  assert c.optim.reduction == "sample_mean" and c.model.llm.dropout == "off"
  assert (c.data.sampling.frames, c.data.sampling.get("low")) == FRAMES[stage]
  assert c.data.time_prompt == ("none" if stage == 1 else "vcf")
  assert (c.infer.time_prompt, c.infer.sampling.multiple) == ("vcf_released", 8)
  assert components.build_video_lm(c.model).layout().tokens_per_group == 64


def test_stage_4_enlarges_the_pictures_of_the_7b_alone():
  assert config(4).model.encoder.variant == "L-448"
  for arg in ARGS[1:]:
    with pytest.raises(ValueError, match="Stop after stage 3"):
      config(4, arg)


def test_dropout_is_an_argument():
  c = config(3, "dropout=uniform0_attention")
  model = components.build_video_lm(c.model)
  assert [s.layer for s in model.layout().stages] == [4, 18]
  assert config(3, "dropout=uniform0_attention,debug").model.llm.dropout.startswith("1:uniform")
  with pytest.raises(ValueError, match="no model=8B"):
    config(3, "model=8B")


def test_frames_that_are_no_whole_clips_name_the_knob():
  """Wherever a count enters: the rows, the samplings of training and of answering, the model."""
  c = config(3, "debug")
  model = components.build_video_lm(c.model)
  extent = frame_sampling.Extent(60.0, 59.9, 600)
  with pytest.raises(ValueError, match=r"config\.data\.sampling\.frames=10 .* Set .* to 8"):
    frame_sampling.frame_count(dict(name="uniform", frames=10, phase="ends"), extent, 4)
  with pytest.raises(ValueError, match=r"config\.infer\.sampling\.multiple=6 is not a multiple"):
    video.count_frames(
      c.infer.sampling.to_dict() | dict(name="dynamic_fps", low=6, frames=12, multiple=6),
      extent,
      video.frame_unit(model),
    )
  with pytest.raises(ValueError, match=r"config\.data\.rows .*10"):
    planner.row_shapes(((10, 0, 128, 1),), model.layout().frames_per_group)

  def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, "uint8")

  with pytest.raises(ValueError, match=r"6 frames are not whole groups of 4\. Set config"):
    jax.eval_shape(
      lambda *args: model.init_with_output(jax.random.key(0), *args, method="embed"),
      shape(1, 6, 32, 32, 3),
      jax.ShapeDtypeStruct((1, 6), bool),
      shape(1, 0, 32, 32, 3),
    )


@pytest.mark.slow
def test_debug_trains_packed_rows_with_dropout(tmp_path):
  """From videos to a saved step: planner, rows, shortened loss, on eight devices."""
  logging.set_verbosity(logging.ERROR)
  corpus = toy.tiny_corpus(tmp_path / "corpus")
  c = config(3, "dropout=uniform0_attention,packed,debug")
  c.data.train = ((f"{corpus}/manifest.json", "all"),)
  c.data.tokenizer = f"{corpus}/tokenizer.model"
  c.batch, c.steps = 2, 2
  c.mesh = dict(data=1, fsdp=2, seq=4, tensor=1)
  plan = make_plan(
    c.data,
    components.build_video_lm(c.model).layout(),
    c.seed,
    c.batch,
    quarantine=tmp_path / "quarantine.jsonl",
  )
  pipeline = Pipeline(plan)
  (shape,) = pipeline.plan.row_shapes
  assert len(shape.room) == 2 and shape.room[1] < shape.room[0] < shape.length
  summary = loop.train_pipeline(c.lock(), tmp_path, pipeline)
  assert summary["steps"] == 2 and summary["loss"] > 0 and summary["num_bad"] == 0
