# SPDX-License-Identifier: Apache-2.0
"""The InternVideo2 tower: sizes, its two position tables, errors. Torch: tests/parity."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.models.components import build
from filax.models.encoders import internvideo2
from filax.parallel import rules


def shapes(model, clip=4):
  x = jax.ShapeDtypeStruct((1, clip, model.size, model.size, 3), jnp.uint8)
  return jax.eval_shape(model.init, jax.random.key(0), x)["params"]


def test_released_sizes():
  model = build("encoder", dict(name="internvideo2", variant="1B"))
  tree = shapes(model)
  width, hidden, patches = 1408, 6144, 256
  block = (
    2 * width
    + 3 * width**2
    + 2 * width
    + width**2
    + width
    + 2 * width
    + 2 * width * hidden
    + hidden
    + width
  )
  expected = (
    39 * block + 3 * 14 * 14 * width + width + width + (1 + 4 * patches + 1 + patches) * width
  )
  assert sum(math.prod(x.shape) for x in jax.tree.leaves(tree)) == expected == 987_337_728
  assert (model.grid, model.width, model.clip) == ((16, 16), 1408, 4)
  assert tree["pos_embed"].shape == (1025, 1408) and tree["img_pos_embed"].shape == (257, 1408)
  for clip in (4, 1):
    frames = jax.ShapeDtypeStruct((2, clip, 224, 224, 3), jnp.uint8)
    out = jax.eval_shape(lambda p, x: model.apply({"params": p}, x), tree, frames)
    assert out.shape == (2, clip, 256, 1408)


@pytest.mark.parametrize("variant", internvideo2.VARIANTS)
def test_every_parameter_has_a_row(variant):
  model = build("encoder", dict(name="internvideo2", variant=variant))
  leaves = jax.tree_util.tree_leaves_with_path(shapes(model))
  paths = ["encoder/" + rules.leaf_path(path) for path, _ in leaves]
  for path, (_, leaf) in zip(paths, leaves, strict=True):
    rules.parameter_spec(internvideo2.DIMS, path, leaf.shape)
  assert all(any(re.search(pattern, p) for p in paths) for pattern, _ in internvideo2.DIMS)


def test_pictures_have_positions_of_their_own():
  model = build("encoder", dict(name="internvideo2", variant="tiny"))
  frames = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 1, 28, 28, 3), np.uint8))
  params = model.init(jax.random.key(0), frames)["params"]
  run = jax.jit(lambda p, x: model.apply({"params": p}, x))
  before = run(params, frames)

  def shift(name):
    return run(params | {name: params[name] * 2}, frames)

  assert np.abs(shift("img_pos_embed") - before).max() > 1e-3
  np.testing.assert_array_equal(shift("pos_embed"), before)


def test_layer_scale_is_applied_in_float32():
  scale = internvideo2.LayerScale(dtype="bfloat16")
  x = jnp.full((1, 1, 2), 3.0, jnp.bfloat16)
  params = {"params": {"scale": jnp.asarray([1.001, 0.5])}}
  expected = (np.float32(3) * np.float32([1.001, 0.5])).astype(jnp.bfloat16)
  np.testing.assert_array_equal(scale.apply(params, x)[0, 0], expected)


def test_clips_without_positions_are_an_error():
  model = build("encoder", dict(name="internvideo2", variant="tiny"))
  with pytest.raises(ValueError, match=r"Clips of 3 frames have no positions.*encoder\.clip=3"):
    shapes(model, clip=3)
  with pytest.raises(ValueError, match="Pictures of 14 x 14 pixels do not fit"):
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 14, 14, 3), jnp.uint8))
