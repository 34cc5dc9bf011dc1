# SPDX-License-Identifier: Apache-2.0
"""Scene supplements against a float64 NumPy spelling of Eq. 5-6."""

import functools

from hypothesis import given
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from filax.ops import history

T, D = 20, 4
supplement = jax.jit(history.supplement, static_argnums=(3, 4))


def reference(x, mask, index, size, order):
  """One scene after the other."""
  unit = x.astype(np.float64)
  unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
  scenes, before = [], -1
  for mu in index:
    inside = [j for j in range(before + 1, mu) if mask[j]]
    ranked = sorted(inside, key=lambda j: (-order * unit[mu] @ unit[j], j))[: size - 1]
    scenes.append(sorted([*ranked, *[mu] * (size - len(ranked))]))
    before = mu
  return np.array(scenes)


picks = st.lists(st.integers(0, T - 1), min_size=5, max_size=5).map(sorted)


@given(picks, st.integers(0, 99), st.sampled_from(list(history.ORDERS)), st.integers(0, 6))
def test_equals_the_reference(index, seed, order, padding):
  x = np.random.default_rng(seed).normal(size=(T, D)).astype(np.float32)
  mask = np.arange(T) < T - padding
  index = sorted(min(i, T - padding - 1) for i in index)
  got = supplement(jnp.asarray(x), jnp.asarray(mask), jnp.asarray(index), 3, order)
  np.testing.assert_array_equal(got, reference(x, mask, index, 3, history.ORDERS[order]))


@given(picks, st.integers(0, 99))
def test_scenes_are_disjoint_ordered_and_end_with_their_representative(index, seed):
  index = sorted(set(index))
  index = index + [T - 1] * (5 - len(index))
  x = np.random.default_rng(seed).normal(size=(T, D)).astype(np.float32)
  got = np.asarray(supplement(jnp.asarray(x), jnp.ones(T, bool), jnp.asarray(index), 3, "similar"))
  np.testing.assert_array_equal(got[:, -1], index)
  assert (np.diff(got.reshape(-1)) >= 0).all()
  for before, mu, scene in zip([-1, *index[:-1]], index, got, strict=True):
    assert all(before < j <= mu or j == mu for j in scene)


def test_missing_history_is_the_representative_itself():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(T, D)), jnp.float32)
  got = supplement(x, jnp.ones(T, bool), jnp.array([0, 1, 3, 9]), 3, "similar")
  np.testing.assert_array_equal(got[:3], [[0, 0, 0], [1, 1, 1], [2, 3, 3]])


def test_padding_between_frames_joins_no_scene():
  mask = jnp.ones(T, bool).at[jnp.array([1, 3])].set(False)
  got = supplement(jnp.ones((T, D)), mask, jnp.array([4]), 4, "similar")
  np.testing.assert_array_equal(got, [[0, 2, 4, 4]])


def test_the_first_scene_may_reach_back_to_frame_zero():
  x = jnp.ones((T, D)).at[0].set(jnp.array([1.0, 0, 0, 0])).at[5].set(jnp.array([2.0, 0, 0, 0]))
  got = supplement(x, jnp.ones(T, bool), jnp.array([5]), 2, "similar")
  np.testing.assert_array_equal(got, [[0, 5]])


def test_similarity_ignores_length_and_dissimilar_takes_the_opposite():
  angle = np.array([0.9, 0.1, 1.5, 0.5, 0.0])
  x = np.stack([np.cos(angle), np.sin(angle)], 1) * np.array([1, 100, 1e-3, 1e4, 1])[:, None]
  ask = functools.partial(
    supplement, jnp.asarray(x, jnp.float32), jnp.ones(5, bool), jnp.array([4]), 3
  )
  np.testing.assert_array_equal(ask("similar"), [[1, 3, 4]])
  np.testing.assert_array_equal(ask("dissimilar"), [[0, 2, 4]])


def test_equal_frames_take_the_earliest_and_zero_frames_do_no_harm():
  def ask(x):
    return supplement(x, jnp.ones(T, bool), jnp.array([9, 15]), 3, "similar")

  for x in (jnp.ones((T, D)), jnp.zeros((T, D))):
    np.testing.assert_array_equal(ask(x), [[0, 1, 9], [10, 11, 15]])
  x = jnp.asarray(np.random.default_rng(0).normal(size=(T, D)), jnp.float32)
  for scale in (1e-25, 1e25):  # Squares leave float32.
    np.testing.assert_array_equal(ask(scale * x), ask(x))


def test_groups_of_one_and_groups_larger_than_the_video():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, D)), jnp.float32)
  mask = jnp.ones(4, bool)
  np.testing.assert_array_equal(supplement(x, mask, jnp.array([1, 3]), 1, "similar"), [[1], [3]])
  got = supplement(x, mask, jnp.array([3]), 7, "similar")
  np.testing.assert_array_equal(got, [[0, 1, 2, 3, 3, 3, 3]])


def test_unknown_history_names_the_knob():
  with pytest.raises(ValueError, match=r"config\.infer\.selector .*similar, dissimilar"):
    history.order_sign("nearest")


def test_signatures_are_checked_in_tests():
  with pytest.raises(jaxtyping.TypeCheckError, match="mask"):
    history.supplement(jnp.ones((T, D)), jnp.ones(T + 1, bool), jnp.array([3]), 3)
