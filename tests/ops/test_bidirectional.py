# SPDX-License-Identifier: Apache-2.0
"""Attention without a mask equals a softmax in float64, forward and backward, at odd lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops.attention import bidirectional

PORTABLE = ("auto", "xla", "tiled", "blockwise")
SIZES = [
  (300, 300),
  (7, 300),
  (300, 130),
  (1100, 600),
]  # Queries and keys, also several tiles.


def drawn(queries, keys):
  rng = np.random.default_rng(0)
  shapes = [(2, queries, 3, 16), (2, keys, 3, 16), (2, keys, 3, 16)]
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def reference(q, k, v):
  """Attention in float64."""
  q, k, v = (x.astype(np.float64) for x in (q, k, v))
  scores = np.einsum("BNHd,BSHd->BHNS", q, k) / np.sqrt(q.shape[-1])
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  return np.einsum("BHNS,BSHd->BNHd", weights, v)


@pytest.mark.parametrize("queries,keys", SIZES)
@pytest.mark.parametrize("name", PORTABLE)
def test_it_equals_a_softmax_in_float64(name, queries, keys):
  arrays = drawn(queries, keys)
  out = bidirectional.attention_kernel(name)(*map(jnp.asarray, arrays))
  np.testing.assert_allclose(out, reference(*arrays), atol=2e-6)


@pytest.mark.parametrize("name", PORTABLE)
def test_gradients_are_those_of_all_scores_at_once(name):
  arrays = [jnp.asarray(x) for x in drawn(1100, 300)]
  direction = jnp.asarray(np.random.default_rng(1).normal(size=arrays[0].shape), jnp.float32)

  def slopes(attend):
    return jax.grad(lambda *x: (attend(*x) * direction).sum(), argnums=(0, 1, 2))(*arrays)

  for ours, whole in zip(
    slopes(bidirectional.attention_kernel(name)), slopes(bidirectional.xla), strict=True
  ):
    np.testing.assert_allclose(ours, whole, atol=1e-5)
