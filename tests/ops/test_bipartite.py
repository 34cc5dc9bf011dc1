# SPDX-License-Identifier: Apache-2.0
"""Bipartite soft matching against plain float64 loops."""

from hypothesis import given
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops import bipartite

select = jax.jit(bipartite.select_frames, static_argnums=(2, 3))
merge = jax.jit(bipartite.merge_tokens, static_argnums=1)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def reference_select(x, count, segments, size):
  """Appendix B for the first `count` frames."""
  u, groups = unit(x.astype(np.float64)), []
  for s in range(segments):
    start, stop = s * count // segments, (s + 1) * count // segments
    a, b = range(start, stop, 2), range(start + 1, stop, 2)
    best = max(
      ((sorted(((u[i] @ u[j], -j) for j in b), reverse=True)[: size - 1], i) for i in a),
      key=lambda edges: (sum(score for score, _ in edges[0]), -edges[1]),
    )
    groups.append(sorted([best[1], *(-j for _, j in best[0])]))
  return np.array(groups)


@given(st.integers(0, 99), st.integers(16, 30))
def test_selection_equals_the_reference(seed, count):
  x = np.random.default_rng(seed).normal(size=(30, 5)).astype(np.float32)
  got = select(jnp.asarray(x), jnp.arange(30) < count, 4, 3)
  np.testing.assert_array_equal(got, reference_select(x, count, 4, 3))


def test_selection_never_takes_padding():
  x = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
  mask = np.arange(30) < 17
  noise = np.where(mask[:, None], x, x[3])
  got = np.asarray(select(jnp.asarray(noise), jnp.asarray(mask), 4, 3))
  np.testing.assert_array_equal(got, select(jnp.asarray(x), jnp.asarray(mask), 4, 3))
  assert got.max() < 17 and len(set(got.reshape(-1))) == 12


def reference_merge(x, target):
  """Algorithm 1 token by token: a token is (value, size, place)."""
  tokens = [(v.astype(np.float64), 1, i) for i, v in enumerate(x)]
  while (left := len(tokens) - target) > 0:
    a, b = tokens[::2], tokens[1::2]
    edges = []
    for i, (value, _, _) in enumerate(a):
      scores = [unit(value) @ unit(other) for other, _, _ in b]
      edges.append((max(scores), i, int(np.argmax(scores))))
    edges.sort(key=lambda e: -e[0])
    edges, kept = edges[: min(left, len(b))], edges[min(left, len(b)) :]
    for _, i, j in edges:
      (v, n, _), (w, m, place) = a[i], b[j]
      b[j] = ((v * n + w * m) / (n + m), n + m, place)
    tokens = [a[i] for _, i, _ in kept] + b
  return np.stack([v for v, _, _ in sorted(tokens, key=lambda t: t[2])])


@pytest.mark.parametrize(
  ("tokens", "target"),
  [(12, 4), (27, 9), (9, 7), (15, 1), (5, 5), (33, 17), (33, 16), (33, 11), (3, 2), (3, 1)],
)
def test_merge_equals_the_reference(tokens, target):
  x = np.random.default_rng(tokens).normal(size=(tokens, 6)).astype(np.float32)
  np.testing.assert_allclose(merge(jnp.asarray(x), target), reference_merge(x, target), atol=2e-6)


def test_at_most_half_of_the_tokens_are_merged_in_a_round():
  """33 are 16 pairs and one that stays: in one round the last token of an even place is kept."""
  x = np.random.default_rng(1).normal(size=(33, 6))
  u = unit(x)
  best = (u[::2] @ u[1::2].T).max(1)
  stays = 2 * int(np.argmin(best))
  merged = np.asarray(merge(jnp.asarray(x, jnp.float32), 17))
  assert (np.abs(merged - x[stays]).max(1) < 1e-6).sum() == 1


def test_merging_equal_tokens_changes_nothing_and_keeps_the_mean():
  x = jnp.full((48, 3), 2.5)
  np.testing.assert_allclose(merge(x, 16), jnp.full((16, 3), 2.5), rtol=1e-6)
  noise = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
  np.testing.assert_allclose(merge(jnp.asarray(noise), 1)[0], noise.mean(0), atol=1e-6)


def test_unmerged_tokens_stay_in_the_order_of_the_picture():
  x = np.eye(8, dtype=np.float32)
  x[2] = x[5]  # The one pair that is alike: 2 goes into 5.
  np.testing.assert_array_equal(merge(jnp.asarray(x), 7), np.delete(x, 2, axis=0))


def test_gradient_is_that_of_the_averages():
  x = jnp.asarray(np.random.default_rng(1).normal(size=(12, 4)), jnp.float32)
  weight = jnp.asarray(np.random.default_rng(2).normal(size=(4, 4)), jnp.float32)

  def loss(x):
    return (merge(x, 4) * weight).sum()

  grad, eps = jax.grad(loss)(x), 1e-2
  for i, j in [(0, 0), (5, 1), (11, 3)]:
    step = jnp.zeros_like(x).at[i, j].set(eps)
    numeric = (loss(x + step) - loss(x - step)) / (2 * eps)  # The matching stays the same.
    np.testing.assert_allclose(grad[i, j], numeric, atol=1e-3)
  assert np.isfinite(jax.grad(loss)(jnp.zeros((12, 4)))).all()


def test_impossible_targets():
  with pytest.raises(ValueError, match="12 tokens cannot be merged into 13"):
    bipartite.merge_tokens(jnp.ones((12, 4)), 13)
