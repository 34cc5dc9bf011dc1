# SPDX-License-Identifier: Apache-2.0
"""Mergers that make fewer tokens of a clip: counts, numbers and what must be conserved."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.models.components import build
from filax.models.mergers import resampler
from filax.ops import pooling, tome
from filax.parallel import rules

pytestmark = pytest.mark.slow

NAMES = ("tome", "pixel_shuffle", "uneven", "resampler")


def draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def merger(name, **config):
  return build("merger", dict(name=name, **config))


def run(model, x, images=None):
  """(groups, images, params) of a merger with fresh parameters."""
  params = jax.jit(model.init)(jax.random.key(0), x).get("params", {})
  apply = jax.jit(
    lambda x, method=None: model.apply({"params": params}, x, method=method), static_argnums=1
  )
  return apply(x), None if images is None else apply(images, "merge_images"), params


# 14 x 14 is UMT at 224 pixels, 28 x 28 at 448, 16 x 16 InternVideo2.
@pytest.mark.parametrize(
  ("name", "side", "tokens", "group", "image"),
  [
    ("tome", 14, 16, 64, 64),
    ("tome", 28, 16, 64, 64),
    ("tome", 16, 16, 64, 64),
    ("tome", 14, 49, 196, 196),
    ("tome", 14, 196, 784, 196),
    ("tome", 28, 196, 784, 784),
    ("pixel_shuffle", 14, 49, 196, 49),
    ("pixel_shuffle", 28, 16, 64, 16),
    ("pixel_shuffle", 16, 16, 64, 16),
    ("pixel_shuffle", 14, 196, 784, 196),
    ("uneven", 14, 16, 64, 64),
    ("uneven", 14, 49, 196, 196),
    ("uneven", 28, 196, 784, 784),
    ("resampler", 14, 16, 64, 64),
    ("resampler", 14, 49, 196, 196),
    ("resampler", 28, 196, 784, 784),
  ],
)
def test_counts_are_those_of_the_grids(name, side, tokens, group, image):
  model, grid = merger(name, variant=str(tokens)), (side, side)
  assert math.prod(model.grid(4, grid)) == group
  assert math.prod(model.image_grid(grid)) == image
  x = jax.ShapeDtypeStruct((1, 2, 4, side * side, 32), jnp.float32)
  still = jax.ShapeDtypeStruct((1, 3, side * side, 32), jnp.float32)
  out, pictures = jax.eval_shape(lambda x, y: run(model, x, y)[:2], x, still)
  assert out.shape[:3] == (1, 2, group)
  assert pictures.shape[:3] == (1, 3, image)
  assert out.shape[3] == pictures.shape[3]  # One mlp projects both.


@pytest.mark.parametrize(
  ("name", "side", "config", "message"),
  [
    ("tome", 7, dict(tokens=64), r"tokens=64 does not fit frames of 7 x 7 .* from 1 to 49"),
    ("pixel_shuffle", 14, dict(tokens=16), "14 x 14 tokens into 16. Set it to one of 196, 49"),
    ("pixel_shuffle", 27, dict(tokens=49), "Set it to one of 729, 81, 9, 1"),
    ("uneven", 14, dict(tokens=196), "keeps 22 x 22 tokens of a frame that has 14 x 14"),
    ("uneven", 14, dict(tokens=10), "tokens=10 has no default grids for groups of 4 .* 16, 49,"),
    ("resampler", 14, dict(frames=3), "frames=3 does not fit groups of 4 frames"),
  ],
)
def test_counts_that_cannot_be_name_the_knob(name, side, config, message):
  with pytest.raises(ValueError, match=message):
    merger(name, **config).grid(4, (side, side))


def test_heads_that_do_not_divide_are_an_error():
  with pytest.raises(ValueError, match=r"config\.model\.merger\.heads=16 does not divide .* 24 ch"):
    run(merger("tome", tokens=1), draw(1, 1, 4, 4, 24))


def test_tome_merges_every_clip_by_itself():
  x, model = draw(2, 3, 4, 16, 32), merger("tome", tokens=4, heads=4)
  out, images, _ = run(model, x, x[:, :, 0])
  assert out.shape == (2, 3, 16, 32)
  clip = x[1, 2].reshape(1, 64, 32)
  np.testing.assert_allclose(out[1, 2], tome.merge_clips(clip, 16, 4)[0][0], atol=1e-6)
  np.testing.assert_array_equal(images, x[:, :, 0])  # 16 tokens are not more than 4 frames' worth.
  out, images, _ = run(model.clone(tokens=2), x, x[:, :, 0])
  np.testing.assert_allclose(images[0, 1], tome.merge_clips(x[0, 1, :1], 8, 4)[0][0], atol=1e-6)


def test_pixel_shuffle_moves_squares_into_channels():
  x = draw(1, 2, 4, 16, 3)
  out, images, _ = run(merger("pixel_shuffle", tokens=4), x, x[:, :, 1])
  assert out.shape == (1, 2, 16, 12)
  frame = np.asarray(x[0, 1, 2]).reshape(4, 4, 3)
  np.testing.assert_array_equal(out[0, 1, 2 * 4 + 1], frame[:2, 2:].reshape(12))
  np.testing.assert_array_equal(images[0, 0], out[0, 0, 4:8])


def test_uneven_is_torchs_average_where_grids_divide():
  torch = pytest.importorskip("torch")
  x = draw(1, 1, 4, 64, 5)
  out, images, _ = run(merger("uneven", tokens=4, first=(4, 4), rest=(2, 2)), x, x[:, 0])
  frames = torch.tensor(np.asarray(x[0, 0])).reshape(4, 8, 8, 5).permute(0, 3, 1, 2)

  def pooled(a, side):
    return torch.nn.functional.avg_pool2d(a, 8 // side).flatten(2).mT.reshape(-1, 5)

  expected = torch.cat([pooled(frames[:1], 4), pooled(frames[1:], 2)])
  np.testing.assert_allclose(out[0, 0], expected, atol=1e-6)
  np.testing.assert_allclose(images[0], pooled(frames, 4).reshape(4, 16, 5), atol=1e-6)


@pytest.mark.parametrize("tokens", [16, 49])
def test_uneven_conserves_the_sum_over_areas(tokens):
  x = draw(1, 2, 4, 196, 3)
  out, _, _ = run(merger("uneven", tokens=tokens), x)
  first, *rest = merger("uneven", tokens=tokens).grids(4, (14, 14))
  sizes = np.concatenate([np.full(math.prod(g), 196 / math.prod(g)) for g in (first, *rest)])
  assert sizes.sum() == pytest.approx(784)
  np.testing.assert_allclose((out * sizes[:, None]).sum(2), x.sum((2, 3)), atol=1e-3)
  np.testing.assert_allclose(pooling.area_operator(14, 5).sum(1), 1, rtol=1e-6)


def test_resampler_is_one_cross_attention_layer():
  model = merger("resampler", tokens=2, frames=4, heads=4)
  x = draw(1, 2, 4, 9, 16)
  out, images, params = run(model, x, x[:, :, 0])
  assert out.shape == images.shape == (1, 2, 8, 16)
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)

  def norm(a, name):
    a = a - a.mean(-1, keepdims=True)
    return a / np.sqrt((a * a).mean(-1, keepdims=True) + 1e-6) * p[name]["scale"] + p[name]["bias"]

  def dense(a, name):
    return (
      np.einsum("ne,ehd->hnd", a, p["attention"][name]["kernel"])
      + p["attention"][name]["bias"][:, None]
    )

  keys = norm(np.float64(x[0, 1]), "norm") + p["frame_embedding"][:, None]
  keys = keys.reshape(36, 16)
  q = dense(norm(p["query"], "query_norm"), "q_proj")
  k, v = dense(keys, "k_proj"), dense(keys, "v_proj")
  weight = np.exp(q @ k.swapaxes(1, 2) / 2)
  read = weight / weight.sum(-1, keepdims=True) @ v
  expected = p["query"] + np.einsum("hnd,hde->ne", read, p["attention"]["o_proj"]["kernel"])
  np.testing.assert_allclose(out[0, 1], expected + p["attention"]["o_proj"]["bias"], atol=1e-5)


def test_resampler_parameters_are_all_covered():
  model = merger("resampler", variant="16")
  tree = jax.eval_shape(model.init, jax.random.key(0), draw(1, 1, 4, 4, 32))["params"]
  paths = ["merger/" + rules.leaf_path(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)]
  for path, leaf in zip(paths, jax.tree.leaves(tree), strict=True):
    rules.parameter_spec(resampler.DIMS, path, leaf.shape)
  assert all(any(re.search(pattern, p) for p in paths) for pattern, _ in resampler.DIMS)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_and_gradients(name):
  options = dict(
    tome=dict(heads=4), resampler=dict(heads=4), uneven=dict(first=(3, 2), rest=(2, 1))
  )
  model = merger(name, tokens=4, dtype="bfloat16", **options.get(name, {}))
  x = draw(1, 1, 4, 16, 16)
  params = jax.jit(model.init)(jax.random.key(0), x).get("params", {})

  def total(x):
    out = model.apply({"params": params}, x)
    return out.astype(jnp.float32).sum(), out

  slope, out = jax.jit(jax.grad(total, has_aux=True))(x)
  assert out.dtype == jnp.bfloat16
  assert np.isfinite(slope).all() and float(jnp.abs(slope).sum()) > 0
