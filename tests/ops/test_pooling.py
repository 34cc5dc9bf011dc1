# SPDX-License-Identifier: Apache-2.0
"""The pooling operator against its published taps, and what pooling keeps. Torch: tests/parity."""

import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops import pooling


def test_taps_of_27_to_14():
  table = pooling.bilinear_operator(27, 14)
  taps = {
    0: {0: 15 / 28, 1: 13 / 28},
    1: {2: 17 / 28, 3: 11 / 28},
    6: {12: 27 / 28, 13: 1 / 28},
    7: {13: 1 / 28, 14: 27 / 28},
    13: {25: 13 / 28, 26: 15 / 28},
  }
  for out, want in taps.items():
    got = {i: float(table[out, i]) for i in np.flatnonzero(table[out])}
    assert got == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(("size", "out"), [(27, 14), (4, 2), (3, 2), (1, 1), (5, 5), (3, 7)])
def test_rows_sum_to_one(size, out):
  np.testing.assert_allclose(pooling.bilinear_operator(size, out).sum(1), 1, rtol=1e-6)


def test_even_grids_are_averaged_two_by_two():
  x = np.random.default_rng(0).normal(size=(2, 3, 6 * 4, 5)).astype(np.float32)
  want = x.reshape(2, 3, 3, 2, 2, 2, 5).mean((3, 5)).reshape(2, 3, 6, 5)
  np.testing.assert_allclose(pooling.bilinear(jnp.asarray(x), (6, 4)), want, atol=1e-6)


def test_half_precision_is_rounded_once():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 729, 8)), jnp.bfloat16)
  got = pooling.bilinear(x, (27, 27))
  want = pooling.bilinear(x.astype(jnp.float32), (27, 27))
  assert got.dtype == jnp.bfloat16 and got.shape == (1, 196, 8)
  np.testing.assert_array_equal(got, want.astype(jnp.bfloat16))


def test_other_sides():
  assert pooling.pooled_grid((27, 27), 2) == (14, 14)
  assert pooling.pooled_grid((16, 9), 4) == (4, 3)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 12, 2)), jnp.float32)
  np.testing.assert_allclose(pooling.bilinear(x, (3, 4), 1), x, atol=1e-6)
