# SPDX-License-Identifier: Apache-2.0
"""Integers evenly spread over a range exactly as torch's integer linspace picks them.

torch computes in float64: i · step, truncated, with step = (n-1)/(k-1), from both ends towards the
middle. Where the exact value is a whole number, rounding may fall below it. Devices have no
float64, so both the exact value and that rounding are worked out here in int32.
"""

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Int

MANTISSA = 53  # Bits of a float64.


def linspace(
  i: Int[Array, "*b"], count: Int[Array, "*b"], picks: Int[Array, "*b"]
) -> Int[Array, "*b"]:
  """The i-th of `picks` integers from 0 to count - 1: torch.linspace(0, count - 1, picks)[i].

  Elementwise int32. Needs 0 <= i < picks <= count < 2^23; elsewhere the value means nothing, but
  lies in the range.
  """
  last, steps = jnp.maximum(count - 1, 1), jnp.maximum(picks - 1, 1)
  i = jnp.clip(i, 0, steps)
  steps = jnp.minimum(steps, last)
  front = i < picks // 2
  j = jnp.minimum(jnp.where(front, i, steps - i), steps)
  whole, rest = _scaled(j, last, steps)
  below, above = _rounding(j, whole, last, steps)
  low = whole - (below & (rest == 0))
  high = last - whole - (rest > 0) - (above & (rest == 0))
  value = jnp.where(picks == 1, 0, jnp.where(front, low, high))
  return jnp.clip(value, 0, jnp.maximum(count - 1, 0))


def _scaled(j, last, steps):
  """j · last / steps = whole + rest / steps, exactly: the product wraps around, its remainder does
  not."""
  times, last = last // steps, last % steps
  guess = (j.astype(jnp.float32) * last.astype(jnp.float32) / steps).astype(jnp.int32)
  rest = j * last - guess * steps
  off = jnp.floor_divide(rest, steps)
  return j * times + guess + off, rest - off * steps


def _rounding(j, whole, last, steps):
  """Whether float64(j · float64(last / steps)) falls below a whole number, or so far above that
  `last` minus it falls below one.

  With last / steps = a / b in lowest terms, the quotient's error is ±r / (b · 2^s), r the remainder
  of a · 2^s by b; times j = t · b it is compared with half the spacing of floats at `whole`.
  """
  common = jnp.gcd(last, steps)
  a, b = last // common, steps // common
  t = j // b
  exponent = _log2(last // steps)
  shift = MANTISSA - 1 - exponent
  double = lambda n, r: jnp.where(n < shift, 2 * r % b, r)
  left = lax.fori_loop(0, MANTISSA, double, a % b)
  down = 2 * left < b
  error = t * jnp.where(down, left, b - left)
  scale = 1 << jnp.maximum(_log2(whole) - exponent, 0)
  positive = (whole > 0) & (left > 0)
  below = positive & down & (2 * error * (1 + _is_power(whole)) > scale)
  # The subtraction rounds too: the step above `whole` must show at the scale of what is left.
  other = jnp.maximum(last - whole, 1)
  above = positive & ~down & (2 * error > scale)
  return below, above & (_log2(other) - _is_power(other) <= _log2(whole))


def _log2(x):
  """floor(log2 x) of positive int32."""
  return 31 - lax.clz(jnp.maximum(x, 1))


def _is_power(x):
  return (jax.lax.population_count(x) == 1).astype(jnp.int32)
