# SPDX-License-Identifier: Apache-2.0
"""Sums of tokens by partner, added row by row and as one product, against float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops import partner_sums

CLIPS, TOKENS, COUNT, WIDTH = 3, 40, 7, 5
# A CPU multiplies no bfloat16 numbers; the factors of the product are the same in float32.
PRODUCT = functools.partial(partner_sums.sum_by_product, dtype=jnp.float32)
WAYS = dict(rows=partner_sums.sum_by_partner, product=PRODUCT)


def draw():
  """Tokens of very different sizes, and their partners; no token has the last one."""
  rng = np.random.default_rng(0)
  sizes = 10.0 ** rng.integers(-6, 6, (CLIPS, TOKENS, 1))
  x = (sizes * rng.normal(size=(CLIPS, TOKENS, WIDTH))).astype(np.float32)
  return x, rng.integers(0, COUNT - 1, (CLIPS, TOKENS))


def exact_sums(x, partner):
  pairs = np.eye(COUNT)[partner]  # [clips tokens count]
  return np.einsum("bac,bae->bce", pairs, x.astype(np.float64))


@pytest.mark.parametrize("way", WAYS)
def test_sums(way):
  x, partner = draw()
  got = jax.jit(WAYS[way], static_argnums=2)(x, jnp.asarray(partner), COUNT)
  most = exact_sums(np.abs(x), partner)
  assert (np.abs(got - exact_sums(x, partner)) <= 4 * 2.0**-23 * most).all()
  assert not np.asarray(got[:, -1]).any()


def test_parts_lose_no_bit():
  x, _ = draw()
  large, middle, small = jax.jit(partner_sums.bfloat16_parts)(x)
  assert large.dtype == jnp.bfloat16
  total = large.astype(jnp.float32) + (middle.astype(jnp.float32) + small.astype(jnp.float32))
  np.testing.assert_array_equal(total, x)


def test_slopes_are_copied_to_the_tokens():
  x, partner = draw()
  slope = np.random.default_rng(1).normal(size=(CLIPS, COUNT, WIDTH)).astype(np.float32)

  def loss(x):
    return (partner_sums.sum_by_partner(x, jnp.asarray(partner), COUNT) * slope).sum()

  expected = np.take_along_axis(slope, partner[..., None], axis=1)
  np.testing.assert_array_equal(jax.jit(jax.grad(loss))(x), expected)
