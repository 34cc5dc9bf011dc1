# SPDX-License-Identifier: Apache-2.0
"""The UMT tower: sizes, the position table's known entries, errors. Torch: tests/parity."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.models.components import build
from filax.models.encoders import umt
from filax.ops import position_table
from filax.ops.attention import bidirectional
from filax.parallel import rules

pytestmark = pytest.mark.slow


def shapes(model, clip=4):
  x = jax.ShapeDtypeStruct((1, clip, model.size, model.size, 3), jnp.uint8)
  return jax.eval_shape(model.init, jax.random.key(0), x)["params"]


@pytest.mark.parametrize(("variant", "grid"), [("L-224", (14, 14)), ("L-448", (28, 28))])
def test_released_sizes(variant, grid):
  model = build("encoder", dict(name="umt", variant=variant))
  tree = shapes(model)
  assert sum(math.prod(x.shape) for x in jax.tree.leaves(tree)) == 290_479_104
  assert (model.grid, model.width, model.clip) == (grid, 1024, 4)
  for clip in (4, 1):
    frames = jax.ShapeDtypeStruct((2, clip, model.size, model.size, 3), jnp.uint8)
    out = jax.eval_shape(lambda p, x: model.apply({"params": p}, x), tree, frames)
    assert out.shape == (2, clip, math.prod(grid), 1024)


@pytest.mark.parametrize("variant", umt.VARIANTS)
def test_every_parameter_has_a_row(variant):
  model = build("encoder", dict(name="umt", variant=variant))
  leaves = jax.tree_util.tree_leaves_with_path(shapes(model))
  paths = ["encoder/" + rules.leaf_path(path) for path, _ in leaves]
  for path, (_, leaf) in zip(paths, leaves, strict=True):
    rules.parameter_spec(umt.DIMS, path, leaf.shape)
  assert all(any(re.search(pattern, p) for p in paths) for pattern, _ in umt.DIMS)
  assert "encoder/layers/attn/q_proj/bias" in paths
  assert "encoder/layers/attn/k_proj/bias" not in paths


def test_positions_are_one_dimensional_over_the_clip():
  table = position_table.position_table(4, 14, 1024, (4, 14))
  assert table.shape == (784, 1024)
  np.testing.assert_array_equal(table[0], np.arange(1024) % 2)
  place, channel = 3 * 196 + 5 * 14 + 9, 700
  angle = place / 10_000 ** (channel / 1024)
  entry = table[place, channel : channel + 2]
  np.testing.assert_allclose(entry, [np.sin(angle), np.cos(angle)], atol=1e-6)
  np.testing.assert_array_equal(position_table.position_table(1, 14, 1024, (4, 14)), table[:196])


def test_enlarging_uses_two_sets_of_weights():
  grow = position_table.bicubic_operator(14, 28)
  weights = [-0.10546875, 0.87890625, 0.26171875, -0.03515625]
  np.testing.assert_allclose(grow[13, 5:9], weights, atol=1e-12)
  np.testing.assert_allclose(grow[14, 5:9], weights[::-1], atol=1e-12)
  np.testing.assert_allclose(grow.sum(1), 1, atol=1e-12)
  plain = position_table.sincos(196, 8).reshape(14, 14, 8)
  expected = np.einsum("ah,bw,hwE->abE", grow, grow, plain).reshape(784, 8)
  np.testing.assert_allclose(position_table.position_table(1, 28, 8, (4, 14)), expected, atol=1e-6)


def test_frames_of_a_clip_interact_and_clips_do_not():
  model = build("encoder", dict(name="umt", variant="tiny"))
  frames = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
  params = model.init(jax.random.key(0), jnp.asarray(frames))
  run = jax.jit(model.apply)
  before = run(params, jnp.asarray(frames))
  frames[0, 3] = 255 - frames[0, 3]
  after = run(params, jnp.asarray(frames))
  assert np.abs(before[0, 0] - after[0, 0]).max() > 1e-6
  np.testing.assert_array_equal(before[1], after[1])


def test_other_pictures_are_an_error():
  model = build("encoder", dict(name="umt", variant="tiny"))
  with pytest.raises(ValueError, match=r"Pictures of 16 x 16 pixels do not fit .* 32 x 32"):
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 16, 16, 3), jnp.uint8))
  with pytest.raises(ValueError, match=r"config\.model\.encoder\.attention='flash' is unknown"):
    shapes(build("encoder", dict(name="umt", variant="tiny", attention="flash")))


def test_attention_by_blocks_is_the_same_in_value_and_slope():
  q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 40, 4, 8))

  def total(attend):
    return jax.value_and_grad(lambda q, k, v: jnp.square(attend(q, k, v)).sum(), (0, 1, 2))(q, k, v)

  whole, slopes = total(bidirectional.xla)
  parts, others = total(lambda q, k, v: bidirectional.blockwise(q, k, v, 16))
  np.testing.assert_allclose(parts, whole, rtol=1e-5)
  for a, b in zip(slopes, others, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
