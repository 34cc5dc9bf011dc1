# SPDX-License-Identifier: Apache-2.0
"""GELU and its slope against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from filax.ops.gelu import gelu

X = np.linspace(-12, 12, 4801)
ROUNDING = {"float32": 2.0**-23, "bfloat16": 2.0**-8}


@pytest.mark.parametrize("dtype", ROUNDING)
def test_value_and_slope(dtype):
  """Errors are within three roundings of a number of the result's size, or of 1 in float32."""
  x = jnp.asarray(X, dtype)
  exact = np.asarray(x, np.float64)
  value, pull_back = jax.vjp(gelu, x)
  (slope,) = pull_back(jnp.ones_like(x))
  assert value.dtype == slope.dtype == x.dtype
  for got, want in (
    (value, exact * norm.cdf(exact)),
    (slope, norm.cdf(exact) + exact * norm.pdf(exact)),
  ):
    error = np.abs(np.asarray(got, np.float64) - want)
    scale = np.maximum(np.abs(exact), 1) * 2.0**-23 + np.abs(want) * ROUNDING[dtype]
    assert (error <= 3 * scale).all()
