# SPDX-License-Identifier: Apache-2.0
"""Checkpoints written slice by slice are read by training, and its checkpoints by conversion."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from filax.checkpoint import store, streamed
from filax.checkpoint.tree import flatten_tree, unflatten_tree

RNG = np.random.default_rng(0)
LEAVES = {
  "llm/layers/mlp/up_proj/kernel": RNG.normal(size=(3, 5, 7)).astype(ml_dtypes.bfloat16),
  "llm/layers/self_attn/k_proj/bias": np.zeros((3, 2, 4), np.float32),  # Zeros are stored, too.
  "llm/norm/scale": RNG.normal(size=7).astype(np.float32),
  "projector/image_newline": RNG.normal(size=7).astype(np.float16),
}


def written(folder):
  writer = streamed.ParameterWriter(folder)
  for path, x in LEAVES.items():
    stacked = "layers" in path
    leaf = writer.leaf(path, x.shape, x.dtype, stacked)
    if stacked:
      for i, layer in enumerate(x):
        leaf[i] = layer
    else:
      leaf[...] = x
  writer.finish(dict(model=dict(llm=dict(name="qwen2")), rows=(1, 2)))
  return folder


def same(a, b):
  assert a.dtype == b.dtype
  np.testing.assert_array_equal(np.asarray(a), b)


def test_training_reads_it(tmp_path):
  params, missing, extra = store.restore_params(written(tmp_path / "run"))
  assert (missing, extra) == ([], [])
  for path, x in flatten_tree(params).items():
    same(x, LEAVES[path])
  assert store.read_config(tmp_path / "run") == dict(
    model=dict(llm=dict(name="qwen2")), rows=[1, 2]
  )


def test_it_can_be_moved_and_laid_on_a_mesh(tmp_path):
  written(tmp_path / "run").rename(tmp_path / "moved")
  mesh = jax.make_mesh((7,), ("x",), devices=jax.devices()[:7])
  layout = jax.sharding.NamedSharding(mesh, jax.P("x"))
  like = {"llm": {"norm": {"scale": jax.ShapeDtypeStruct((7,), jnp.float32, sharding=layout)}}}
  params, missing, extra = store.restore_params(tmp_path / "moved", like)
  assert not missing and len(extra) == 3
  same(params["llm"]["norm"]["scale"], LEAVES["llm/norm/scale"])


def test_what_training_writes_is_read(tmp_path):
  mesh = jax.make_mesh((5,), ("x",), devices=jax.devices()[:5])
  layout = jax.sharding.NamedSharding(mesh, jax.P(None, "x"))
  leaves = {}
  for path, x in LEAVES.items():
    sharded = x.ndim == 3 and x.shape[1] == 5
    leaves[path] = jax.device_put(x, layout if sharded else None)
  store.save_params(tmp_path, unflatten_tree(leaves), dict(model={}))
  step = streamed.step_folder(tmp_path)
  digests = streamed.read_json(step, "data")["digests"]
  shapes = streamed.shapes(step)
  assert shapes.keys() == LEAVES.keys()
  for path, x in LEAVES.items():
    assert tuple(shapes[path].shape) == x.shape
    same(streamed.read_parameter(step, path, digests[f"params/{path}"]), x)
    layers = streamed.read_layers(step, path, digests[f"params/{path}"])
    same(np.stack(list(layers)), x)


def test_layers_are_read_one_by_one(tmp_path):
  path = "llm/layers/mlp/up_proj/kernel"
  step = streamed.step_folder(written(tmp_path / "run"))
  digests = streamed.read_json(step, "data")["digests"]
  layers = streamed.read_layers(step, path, digests[f"params/{path}"])
  same(next(layers), LEAVES[path][0])
  same(np.stack([LEAVES[path][0], *layers]), LEAVES[path])
  with pytest.raises(ValueError, match="its digest differs"):
    list(streamed.read_layers(step, path, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_digests_are_those_of_training(dtype):
  x = RNG.normal(size=(3, 70, 11)).astype(dtype)
  parts = sum(streamed.slice_sum(layer, i, x.shape) for i, layer in enumerate(x)) % 2**64
  assert store.digests(jnp.asarray(x)) == streamed.slice_sum(x, ..., x.shape) == parts


def test_damage_is_found(tmp_path):
  step = streamed.step_folder(written(tmp_path / "run"))
  with pytest.raises(ValueError, match="its digest differs"):
    streamed.read_parameter(step, "llm/norm/scale", 1)
  for file in (step / "state" / "d").iterdir():
    file.write_bytes(b"\0" * file.stat().st_size)
  with pytest.raises(ValueError, match="cannot be read"):
    streamed.read_parameter(step, "llm/layers/mlp/up_proj/kernel")
  with pytest.raises(ValueError, match="cannot be read"):
    list(streamed.read_layers(step, "llm/layers/mlp/up_proj/kernel"))


def test_no_checkpoint(tmp_path):
  with pytest.raises(OSError, match="no checkpoint"):
    streamed.step_folder(tmp_path)
