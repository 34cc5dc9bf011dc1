# SPDX-License-Identifier: Apache-2.0
"""Every file of configs/ builds, plain and :debug, and :debug trains a step on real videos."""

import importlib
import pathlib

from absl import logging
import jax
import pytest

from data_pipelines.loader import Pipeline, make_plan
from data_pipelines.synthesis import toy
from filax.configs import common
from filax.models import adapted, components
from filax.train import loop, optim
from filax.train import run as train

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(
  p.stem for p in (ROOT / "configs").glob("*.py") if p.stem not in ("__init__", "common")
)
FILA = [name for name in NAMES if name.startswith(("fila_stage", "fila_base"))]


def config(name, arg=None):
  return importlib.import_module(f"filax.configs.{name}").get_config(arg).lock()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
  return toy.tiny_corpus(tmp_path_factory.mktemp("corpus"))


def parts(c):
  model = components.build_video_lm(c.model)
  shapes = adapted.adapted_shapes(model, c.lora)
  count = {role: sum(x.size for x in jax.tree.leaves(tree)) for role, tree in shapes.items()}
  return model, shapes, count


@pytest.mark.parametrize("arg", [None, "debug"])
@pytest.mark.parametrize("name", NAMES)
def test_builds(name, arg):
  """At full size in shapes only: the model, its rates, its rows, and its data settings."""
  c = config(name, arg)
  model, shapes, _ = parts(c)
  optim.make_optimizer(c.optim.to_dict(), shapes, 1000)
  train.check_selector(c, model)
  layout = model.layout()
  assert model.selector.groups(c.data.sampling.frames) * layout.tokens_per_group > 0
  assert all(row[0] % layout.frames_per_group == 0 for row in c.data.rows)
  components.build_video_lm(c.model, c.infer.selector).selector.groups(c.infer.sampling.frames)


@pytest.mark.parametrize("name", NAMES)
def test_has_every_key_of_base_and_no_other(name):
  actual = config(name)
  base = common.base()
  assert set(actual) == set(base)
  assert set(actual.data) == set(base.data)
  assert set(actual.optim) == set(base.optim)


@pytest.mark.parametrize("name", FILA)
def test_fila_is_7b(name):
  _, _, count = parts(config(name))
  assert count["llm"] == 7_615_616_512  # Qwen2-7B.
  assert count["encoder"] == 397_747_744 - 2 * 1152  # 26 blocks; the norm after them is not read.
  newline = 0 if name == "fila_stage1" else 3584
  assert count["projector"] == 16_980_992 + newline
  assert count.get("merger", 0) == (0 if name == "fila_base" else 3 * 729 * 1152)


RATES = {  # Table 4 of the paper: encoder, projector, language model, merger, batch, frames.
  "fila_stage1": (0, 1e-3, 0, 0, 32, None),
  "fila_stage2": (2e-6, 2e-6, 1e-5, 0, 64, None),
  "fila_stage3": (2e-6, 2e-6, 1e-5, 0, 64, None),
  "fila_stage4": (2e-6, 2e-6, 1e-5, 2e-6, 128, (96, 32)),
  "fila_base": (2e-6, 2e-6, 1e-5, None, 128, (32, 32)),
}


@pytest.mark.parametrize("name", FILA)
def test_table_4(name):
  c = config(name)
  model, shapes, _ = parts(c)
  optimizer = optim.make_optimizer(c.optim.to_dict(), shapes, 1000)
  encoder, projector, llm, merger, batch, frames = RATES[name]
  got = {path: rate for path, rate in optimizer.rates.items() if not path.endswith("image_newline")}

  def rates_of(role):
    return {rate for path, rate in got.items() if path.startswith(role)}

  assert rates_of("encoder") == {encoder}
  assert rates_of("projector") == {projector}
  assert rates_of("llm") == {llm}
  assert rates_of("merger") == (set() if merger is None else {merger})
  assert c.batch == batch and c.epochs == 1 and c.steps == 0 and not c.data.packing
  if frames:
    sampled, merged = frames
    assert c.data.sampling.frames == sampled and model.selector.groups(sampled) == merged


@pytest.mark.parametrize("name", FILA)
def test_the_rest_is_llavas(name):
  o = config(name).optim
  assert (o.b1, o.b2, o.eps, o.clip, o.warmup, o.final) == (0.9, 0.999, 1e-8, 1.0, 0.03, 0.0)
  assert o.reduction == "sample_mean" and {value for _, value in o.decay} == {0.0}


@pytest.mark.parametrize("name", FILA)
def test_packed_rows_hold_about_the_batch(name):
  """Positions of a step: as many as the samples of Table 4's batch need at most."""
  plain = config(name)
  packed = config(name, "packed")
  assert packed.data.packing and len(packed.data.rows) == 1
  frames, images, length, segments = packed.data.rows[0]
  ratio = plain.batch / packed.batch
  assert segments >= ratio and frames == ratio * plain.data.rows[0][0]
  assert images == ratio * plain.data.rows[0][1] and length <= ratio * plain.data.rows[0][2]


def test_a_locked_config_knows_its_keys():
  c = config(NAMES[0])
  with pytest.raises(AttributeError, match='Did you mean "steps" instead of "stepz"'):
    c.stepz = 3
  with pytest.raises((AttributeError, KeyError)):
    c.data.frames = 3
  with pytest.raises(TypeError):
    c.batch = "many"


@pytest.mark.parametrize(
  "text, expected",
  [
    (None, (1, 0.5, "a", False)),
    ("n=3,name=b", (3, 0.5, "b", False)),
    ("flag", (1, 0.5, "a", True)),
    ("flag=false,share=0.25", (1, 0.25, "a", False)),
  ],
)
def test_arguments(text, expected):
  arg = common.parse_arg(text, n=1, share=0.5, name="a", flag=False)
  assert (arg.n, arg.share, arg.name, arg.flag) == expected


@pytest.mark.parametrize(
  "text, message",
  [
    ("m=3", "no argument 'm'. It takes flag, n"),
    ("n=three", "n='three' is not a int"),
    ("flag=maybe", "flag='maybe' is not a bool"),
    ("n", "n='true' is not a int"),
  ],
)
def test_arguments_that_do_not_fit(text, message):
  with pytest.raises(ValueError, match=message):
    common.parse_arg(text, n=1, flag=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_debug_trains_a_step(name, corpus, tmp_path):
  logging.set_verbosity(logging.ERROR)
  c = config(name, "debug")
  c.data.train = ((f"{corpus}/manifest.json", "all"),)
  c.data.tokenizer = f"{corpus}/tokenizer.model"
  c.batch = 2
  c.steps = 1
  plan = make_plan(
    c.data,
    components.build_video_lm(c.model).layout(),
    c.seed,
    c.batch,
    quarantine=tmp_path / "quarantine.jsonl",
  )
  pipeline = Pipeline(plan)
  summary = loop.train_pipeline(c, tmp_path, pipeline, devices=jax.devices()[:1])
  assert summary["steps"] == 1 and summary["loss"] > 0 and summary["num_bad"] == 0
  assert summary["frames"] == 2 * c.data.sampling.frames
