# SPDX-License-Identifier: Apache-2.0
"""Averages of parameters: their values, what is saved, who reads them, and how runs resume."""

import shutil

import jax
import numpy as np
import pytest

from filax.checkpoint import averages, base, parameter_reader, store, streamed
from filax.checkpoint.tree import flatten_tree
from filax.models import lora
from filax.testing import row_source
from filax.train import averages as train_averages
from filax.train import loop, setup

pytestmark = pytest.mark.slow

DECAY = 0.7
ONE_DEVICE = jax.devices()[:1]
EMA = {"optim.ema": DECAY, "optim.rates": (("^projector/", 1e-3), ("", 0.0))}
SCHEDULE_FREE = {
  "optim.kind": "schedule_free",
  "optim.final": 1.0,
  "optim.rates": (("^projector/", 1e-3), ("^merger/", 1e-4), ("", 0.0)),
}


def train(folder, steps=4, **changes):
  settings = dict(checkpoint_every=1, keep=0) | changes
  config = row_source.tiny_train_config(batch=2, steps=steps, **settings)
  loop.train_pipeline(config, folder, row_source.RandomRows(2), devices=ONE_DEVICE)


def last_values(folder, step, monkeypatch):
  """Parameters of a step, without their averages."""
  with monkeypatch.context() as patch:
    patch.setattr(averages, "_LAST_VALUES", {True})
    params, _, _ = store.restore_params(folder / "checkpoints" / str(step))
  return flatten_tree(params)


def read_averages(folder, step):
  params, missing, extra = store.restore_params(folder / "checkpoints" / str(step))
  assert missing == extra == []
  return flatten_tree(params)


def arrays(folder, step):
  """Names of the arrays of a step."""
  return streamed.read_json(folder / "checkpoints" / str(step), "data")["digests"]


@pytest.fixture(scope="module")
def run_with_ema(tmp_path_factory):
  folder = tmp_path_factory.mktemp("ema")
  train(folder, **EMA)
  return folder


@pytest.fixture(scope="module")
def schedule_free_run(tmp_path_factory):
  folder = tmp_path_factory.mktemp("schedule_free")
  train(folder, **SCHEDULE_FREE)
  return folder


def test_the_average_is_that_of_every_step(run_with_ema, tmp_path, monkeypatch):
  """In float64, from the parameters that the run started with."""
  start = row_source.tiny_train_config(batch=2, **EMA)
  drawn = setup.prepare(start.to_dict(), 4, ONE_DEVICE)
  state = setup.complete_state(start.seed, drawn, {})
  path = "projector/linear_1/kernel"
  expected = np.asarray(flatten_tree(state.params)[path], np.float64)
  for step in range(1, 5):
    decay = min(DECAY, (1 + step) / (10 + step))
    x = np.asarray(last_values(run_with_ema, step, monkeypatch)[path], np.float64)
    expected = decay * expected + (1 - decay) * x
  average = read_averages(run_with_ema, 4)[path]
  np.testing.assert_allclose(average, expected, rtol=0, atol=1e-7)
  assert abs(average - last_values(run_with_ema, 4, monkeypatch)[path]).max() > 1e-5


def test_only_what_is_trained_has_an_average(run_with_ema):
  names = arrays(run_with_ema, 4)
  averaged = {name for name in names if name.startswith("average/")}
  moments = {name for name in names if "/mu/" in name}
  assert averaged and all(name.startswith("average/projector/") for name in averaged)
  assert len(averaged) == len(moments)


@pytest.mark.parametrize(
  "run, trained",
  [("run_with_ema", ("projector/",)), ("schedule_free_run", ("projector/", "merger/"))],
)
def test_every_reader_reads_averages(run, trained, request, monkeypatch):
  folder = request.getfixturevalue(run)
  before = last_values(folder, 4, monkeypatch)
  reader = parameter_reader.ParameterReader(folder / "checkpoints/4")
  moved = set()
  for path, x in read_averages(folder, 4).items():
    if (np.asarray(x) != before[path]).any():
      moved.add(path)
    np.testing.assert_array_equal(reader.whole(path), x)
  assert "projector/linear_1/kernel" in moved and all(path.startswith(trained) for path in moved)
  path = "llm/layers/mlp/up_proj/kernel"
  np.testing.assert_array_equal(np.stack(list(reader.layers(path))), before[path])


def test_averages_of_another_dtype_are_cast(run_with_ema):
  like = {"projector": {"linear_1": {"kernel": None}}}
  shape = read_averages(run_with_ema, 4)["projector/linear_1/kernel"].shape
  like["projector"]["linear_1"]["kernel"] = jax.ShapeDtypeStruct(shape, "bfloat16")
  params, _, _ = store.restore_params(run_with_ema, like)
  assert params["projector"]["linear_1"]["kernel"].dtype == "bfloat16"


@pytest.mark.parametrize(
  "run, changes", [("run_with_ema", EMA), ("schedule_free_run", SCHEDULE_FREE)]
)
def test_a_run_resumes_bit_for_bit(run, changes, request, tmp_path):
  folder = request.getfixturevalue(run)
  shutil.copytree(folder, tmp_path / "run")
  for step in (3, 4):
    shutil.rmtree(tmp_path / "run/checkpoints" / str(step))
  train(tmp_path / "run", **changes)
  for step in (3, 4):
    expected = base.checkpoint_hash(folder / "checkpoints" / str(step))
    assert base.checkpoint_hash(tmp_path / "run/checkpoints" / str(step)) == expected


@pytest.mark.long
def test_a_run_goes_on_without_its_average(run_with_ema, tmp_path):
  shutil.copytree(run_with_ema, tmp_path / "run")
  train(tmp_path / "run", steps=5, **(EMA | {"optim.ema": 0.0}))
  assert not any(name.startswith("average/") for name in arrays(tmp_path / "run", 5))


def test_with_adapters_it_is_theirs_alone(run_with_ema, tmp_path, monkeypatch):
  """Answering merges averaged adapters into the kernels of the base."""
  adapters = {"optim.rates": (("lora_[ab]$", 1e-2), ("", 0.0)), "lora.ranks": (("^llm/", 2),)}
  train(tmp_path, 2, init_from=str(run_with_ema), **({"optim.ema": DECAY} | adapters))
  reader = parameter_reader.ParameterReader(tmp_path / "checkpoints/2")
  averaged = [name for name in arrays(tmp_path, 2) if name.startswith("average/")]
  assert averaged and all(map(lora.is_adapter, averaged))
  path = reader.adapted[0]
  merged = lora.merge_kernel(read_averages(run_with_ema, 4)[path], *reader.adapters(path))
  np.testing.assert_allclose(read_averages(tmp_path, 2)[path], merged, atol=1e-6)
  assert (np.asarray(merged) != last_values(tmp_path, 2, monkeypatch)[path]).any()


def test_a_run_starts_from_the_average(run_with_ema):
  config = row_source.tiny_train_config(batch=2, init_from=str(run_with_ema)).to_dict()
  prepared = setup.prepare(config, 4, ONE_DEVICE)
  params, _, _ = store.restore_params(config["init_from"], prepared.like.params)
  path = "projector/linear_1/kernel"
  np.testing.assert_array_equal(flatten_tree(params)[path], read_averages(run_with_ema, 4)[path])


@pytest.mark.parametrize("changes", [EMA, SCHEDULE_FREE])
def test_averages_lie_as_their_parameters(changes):
  more = changes | {"mesh.data": 1, "mesh.fsdp": 2, "mesh.seq": 2, "optim.rates": (("", 1e-3),)}
  config = row_source.tiny_train_config(batch=2, **more).to_dict()
  prepared = setup.prepare(config, 4, jax.devices()[:4])
  like = prepared.like
  moved = like.average if like.average is not None else like.opt.z
  layouts = flatten_tree(like.params)
  for path, leaf in flatten_tree(moved).items():
    assert leaf.sharding == layouts[path].sharding and leaf.dtype == "float32"
  parameters = sum(leaf.size for leaf in layouts.values())
  state = sum(leaf.size for leaf in jax.tree.leaves((like.opt, like.average)))
  assert state / parameters == pytest.approx(3 if "optim.ema" in changes else 2, rel=0.01)


@pytest.mark.long
@pytest.mark.parametrize("changes", [EMA, SCHEDULE_FREE])
def test_evaluations_during_training_use_averages(changes):
  config = row_source.tiny_train_config(batch=2, **changes).to_dict()
  prepared = setup.prepare(config, 4, ONE_DEVICE)
  state = setup.complete_state(0, prepared, {})
  step = setup.train_step(config, prepared)
  with jax.set_mesh(prepared.mesh):
    for number in range(3):
      state, _ = step(state, row_source.random_batch(2, 2 * number))
  optimizer = prepared.optimizer
  saved = train_averages.make_saved_state(optimizer, prepared.like)(state)
  answering = train_averages.make_answering_params(optimizer, prepared.like)(state)
  flat = flatten_tree(answering)
  assert flat.keys() == flatten_tree(state.params).keys()
  for path, mean in flatten_tree(saved.average).items():
    np.testing.assert_array_equal(flat[path], mean)
  kernel = "llm/layers/mlp/up_proj/kernel"
  assert flat[kernel] is flatten_tree(state.params)[kernel]  # Frozen: not copied.
