# SPDX-License-Identifier: Apache-2.0
"""Rotary positions against complex numbers in float64, and their defining properties."""

import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops import rope


def turned(x, positions, theta=1e4, yarn=None):
  positions = jnp.asarray(positions, jnp.int32)
  return rope.rotate(
    jnp.asarray(x), *rope.angles(positions, *rope.frequencies(x.shape[-1], theta, yarn))
  )


def draw(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_rotation_is_a_complex_product():
  x, positions = draw(2, 5, 3, 8), np.array([[0, 1, 2, 3, 4], [7, 7, 100, 0, 31]])
  pairs = x[..., :4].astype(complex) + 1j * x[..., 4:]
  pairs *= np.exp(1j * positions[:, :, None, None] * 1e4 ** -(np.arange(4) / 4))
  want = np.concatenate([pairs.real, pairs.imag], -1)
  np.testing.assert_allclose(turned(x, positions), want, atol=2e-5)


def test_scores_depend_on_the_distance_only():
  q, k = draw(1, 1, 1, 16), draw(1, 1, 1, 16, seed=1)

  def score(i, j):
    return float((turned(q, [[i]]) * turned(k, [[j]])).sum())

  assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)


def test_position_zero_and_length_are_kept():
  x = draw(1, 4, 2, 8)
  np.testing.assert_array_equal(turned(x, [[0, 0, 0, 0]]), x)

  def length(x):
    return np.linalg.norm(x, axis=-1)

  np.testing.assert_allclose(length(turned(x, [[3, 50, 900, 8]])), length(x), rtol=1e-5)


def test_yarn_keeps_fast_turns_and_stretches_slow_ones():
  plain, one = rope.frequencies(64, 1e6)
  stretched, factor = rope.frequencies(64, 1e6, (4.0, 32_768))
  assert one == 1.0 and factor == pytest.approx(0.1 * np.log(4) + 1)
  np.testing.assert_array_equal(stretched[:4], plain[:4])
  np.testing.assert_allclose(stretched[-4:], plain[-4:] / 4, rtol=1e-6)
  assert (np.diff(stretched) < 0).all()


def test_the_dtype_of_the_input_is_kept():
  assert turned(draw(1, 2, 1, 8).astype(jnp.bfloat16), [[0, 1]]).dtype == jnp.bfloat16
