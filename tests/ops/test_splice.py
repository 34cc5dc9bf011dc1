# SPDX-License-Identifier: Apache-2.0
"""Splicing visual tokens into text against a loop, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from filax.ops.splice import splice
from filax.spec import TEXT

INDEX = jnp.array([[TEXT, 0, 1, TEXT, 2, 2], [3, TEXT, TEXT, 0, 1, TEXT]])


def draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_equals_a_loop():
  text, table = draw(2, 6, 4), draw(2, 5, 4, seed=1)
  want = np.array(text)
  for b, i in np.argwhere(np.asarray(INDEX) != TEXT):
    want[b, i] = table[b, INDEX[b, i]]
  np.testing.assert_array_equal(splice(text, table, INDEX), want)


def test_the_gradient_adds_up_where_a_row_is_shown_twice():
  text, table, weight = draw(2, 6, 4), draw(2, 5, 4, seed=1), draw(2, 6, 4, seed=2)
  d_text, d_table = jax.grad(
    lambda text, table: (splice(text, table, INDEX) * weight).sum(), argnums=(0, 1)
  )(text, table)
  shown = np.asarray(INDEX) != TEXT
  np.testing.assert_array_equal(d_text, np.where(shown[..., None], 0, weight))
  want = np.zeros(table.shape, np.float32)
  for b, i in np.argwhere(shown):
    want[b, INDEX[b, i]] += weight[b, i]
  np.testing.assert_allclose(d_table, want, rtol=1e-6)


def test_an_empty_table_leaves_the_text():
  text = draw(2, 6, 4)
  np.testing.assert_array_equal(splice(text, jnp.zeros((2, 0, 4)), INDEX * 0 + TEXT), text)


def test_the_dtype_is_that_of_the_text():
  text = draw(2, 6, 4).astype(jnp.bfloat16)
  assert splice(text, draw(2, 5, 4), INDEX).dtype == jnp.bfloat16
