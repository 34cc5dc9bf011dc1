# SPDX-License-Identifier: Apache-2.0
"""Mergers against float64 NumPy, their parameters, and the stages where they may sit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.models.components import build, build_video_lm, component
from filax.parallel.rules import leaf_path, parameter_spec

B, G, K, N, E = 2, 3, 3, 4, 8


def groups(seed=0, dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(seed).normal(size=(B, G, K, N, E)), dtype)


def init(model, x):
  params = jax.jit(model.init)(jax.random.key(0), x).get("params", {})

  def fill(i, p):
    return jnp.asarray(np.random.default_rng(i).normal(size=p.shape), p.dtype)

  leaves, tree = jax.tree.flatten(params)
  return params, jax.tree.unflatten(tree, [fill(i, p) for i, p in enumerate(leaves)])


SCENE_MERGERS = ("attention", "bsm", "mean", "weighted")  # Of groups of any size.


@pytest.mark.parametrize("name", SCENE_MERGERS)
def test_shapes_grids_and_images(name):
  model = build("merger", dict(name=name))
  if name == "bsm":
    assert model.stages == ("pool",)
  assert model.grid(K, (2, 2)) == model.image_grid((2, 2)) == (2, 2)
  x = groups()
  params, _ = init(model, x)
  assert jax.eval_shape(model.apply, {"params": params}, x).shape == (B, G, N, E)
  still = jnp.ones((B, 1, N, E))
  assert model.apply({"params": params}, still, method="merge_images") is still


@pytest.mark.parametrize("name", SCENE_MERGERS)
def test_output_follows_dtype_and_parameters_are_covered(name):
  module, _ = component("merger", name)
  model = build(
    "merger",
    dict(name=name, norm=True) if name == "attention" else dict(name=name),
    dtype="bfloat16",
    param_dtype="bfloat16",
  )
  params, _ = init(model, groups(dtype=jnp.bfloat16))
  out = jax.eval_shape(model.apply, {"params": params}, groups(dtype=jnp.bfloat16))
  assert out.dtype == jnp.bfloat16
  seen = set()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    parameter_spec(module.DIMS, leaf_path(path), leaf.shape)
    seen.add(leaf_path(path))
  assert bool(seen) == hasattr(module, "DIMS")


def test_weighted_starts_as_the_mean_and_stays_float32():
  model = build("merger", dict(name="weighted"), dtype="bfloat16", param_dtype="bfloat16")
  params, _ = init(model, groups())
  assert params["weight"].shape == (K, N, E) and params["weight"].dtype == jnp.float32
  np.testing.assert_array_equal(params["weight"], np.float32(1 / 3))
  still = jnp.ones((B, G, K, N, E), jnp.bfloat16)
  np.testing.assert_array_equal(model.apply({"params": params}, still), still[:, :, 0])
  x = groups(1)
  mean = build("merger", dict(name="mean")).apply({}, x)
  full = build("merger", dict(name="weighted")).apply({"params": params}, x)
  np.testing.assert_allclose(full, mean, atol=1e-6)


def test_weighted_is_equation_8_with_its_gradient():
  model, x = build("merger", dict(name="weighted")), groups(2)
  _, params = init(model, x)
  weight = np.asarray(params["weight"], np.float64)
  want = (np.asarray(x, np.float64) * weight).sum(2)
  np.testing.assert_allclose(model.apply({"params": params}, x), want, atol=1e-5)
  grad = jax.grad(lambda p: model.apply({"params": p}, x).sum())(params)["weight"]
  np.testing.assert_allclose(grad, np.asarray(x, np.float64).sum((0, 1)), atol=1e-5)


def test_mean_averages_in_float32():
  x = groups(3, jnp.bfloat16)
  want = np.asarray(x, np.float64).mean(2).astype(jnp.bfloat16)
  got = build("merger", dict(name="mean", dtype="bfloat16")).apply({}, x)
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("norm", [False, True])
def test_attention_pooling(norm):
  model, x = build("merger", dict(name="attention", norm=norm)), groups(4)
  _, params = init(model, x)
  y = np.asarray(x, np.float64)
  h = y
  if norm:
    h = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    h = h * np.asarray(params["layer_norm"]["scale"]) + np.asarray(params["layer_norm"]["bias"])
  q = h[:, :, K // 2] @ np.asarray(params["q_proj"]["kernel"], np.float64)
  k = h @ np.asarray(params["k_proj"]["kernel"], np.float64)
  score = np.exp((q[:, :, None] * k).sum(-1) / np.sqrt(E))
  share = score / score.sum(2, keepdims=True)
  want = (share[..., None] * y).sum(2)
  np.testing.assert_allclose(model.apply({"params": params}, x), want, atol=1e-5)


def test_attention_pooling_of_equal_frames_is_the_frame():
  model, x = build("merger", dict(name="attention")), groups(5)
  still = jnp.broadcast_to(x[:, :, :1], x.shape)
  _, params = init(model, x)
  np.testing.assert_allclose(model.apply({"params": params}, still), still[:, :, 0], atol=1e-6)


def test_bsm_merges_over_time_and_space():
  model = build("merger", dict(name="bsm"))
  x = np.zeros((1, 1, 2, 4, 4), np.float32)
  x[0, 0, 0], x[0, 0, 1] = np.eye(4), np.eye(4)[[1, 0, 3, 2]]
  # Tokens 0, 2, 4, 6 find their equals at 5, 7, 1, 3.
  got = model.apply({}, jnp.asarray(x))[0, 0]
  np.testing.assert_allclose(got, np.eye(4)[[1, 3, 0, 2]], atol=1e-6)


def test_stages():
  def layout(merger, stage):
    return build_video_lm(
      dict(
        encoder=dict(name="siglip", variant="tiny"),
        selector=dict(name="uniform"),
        merger=dict(name=merger),
        projector=dict(name="mlp"),
        llm=dict(name="qwen2", variant="tiny"),
        merge_stage=stage,
      )
    ).layout()

  for stage in ("vision", "projector", "pool"):
    assert layout("weighted", stage).group_grid == (2, 2)
  assert layout("bsm", "pool").group_grid == (2, 2)
  for stage in ("vision", "projector"):
    with pytest.raises(ValueError, match=rf"config\.model\.merge_stage='{stage}'.*pool"):
      layout("bsm", stage)


@pytest.mark.parametrize(
  ("tokens", "width", "count"),
  [(729, 1152, 2_519_424), (729, 3584, 7_838_208), (196, 3584, 2_107_392)],
)
def test_weight_of_every_stage_at_full_size(tokens, width, count):
  model = build("merger", dict(name="weighted"))
  x = jax.ShapeDtypeStruct((1, 32, 3, tokens, width), jnp.bfloat16)
  params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
  assert params["weight"].size == count
