# SPDX-License-Identifier: Apache-2.0
"""torch's integer linspace in int32.

torch computes in float64: i · step, truncated, with step = (n-1)/(k-1), from both ends towards the
middle. Where the exact value is an integer, rounding may fall below it. Devices have no float64,
so this module computes both the exact value and the effect of that rounding in int32.

  linspace(0..3, count=10, picks=4) = 0 3 6 9      step 3
  linspace(0..3, count=9, picks=4)  = 0 2 5 8      step 2.67: 0, 2.67 | 8 - 2.67, 8
"""

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Int

MANTISSA = 53  # Bits of a float64.


def linspace(
  i: Int[Array, "*b"],
  count: Int[Array, "*b"],
  picks: Int[Array, "*b"],
) -> Int[Array, "*b"]:
  """The i-th value of torch's integer linspace.

  The same as torch.linspace(0, count - 1, picks, dtype=torch.int64)[i], elementwise in int32. Needs
  0 <= i < picks <= count < 2^23; for other arguments the value is meaningless, but is in the
  range.
  """
  last = jnp.maximum(count - 1, 1)
  steps = jnp.maximum(picks - 1, 1)
  i = jnp.clip(i, 0, steps)
  steps = jnp.minimum(steps, last)
  from_start = i < picks // 2
  steps_to_end = jnp.where(from_start, i, steps - i)  # To the nearer end of the range.
  j = jnp.minimum(steps_to_end, steps)
  quotient, remainder = _scaled(j, last, steps)
  rounds_below, rounds_above = _rounding(j, quotient, last, steps)
  low = quotient - (rounds_below & (remainder == 0))
  high = last - quotient - (remainder > 0) - (rounds_above & (remainder == 0))
  value = jnp.where(picks == 1, 0, jnp.where(from_start, low, high))
  return jnp.clip(value, 0, jnp.maximum(count - 1, 0))


def _scaled(j, last, steps):
  """Exact quotient and remainder of j · last / steps.

  The product may overflow int32; wrap-around leaves its remainder correct.
  """
  whole_steps = last // steps
  last = last % steps
  guess = j.astype(jnp.float32) * last.astype(jnp.float32) / steps
  guess = guess.astype(jnp.int32)
  remainder = j * last - guess * steps
  error = jnp.floor_divide(remainder, steps)
  return j * whole_steps + guess + error, remainder - error * steps


def _rounding(j, quotient, last, steps):
  """Whether rounding moves a float64 product across an integer.

  Returns (below, above): whether float64(j · float64(last / steps)) lies below an integer, and
  whether it lies so far above one that `last` minus it falls below an integer. With last / steps =
  a / b in lowest terms, the error of the float64 is ±r / (b · 2^s), r the remainder of a · 2^s by
  b; times j = t · b it is compared with half the spacing of floats at `quotient`.
  """
  common = jnp.gcd(last, steps)
  a = last // common
  b = steps // common
  t = j // b
  exponent = _log2(last // steps)
  shift = MANTISSA - 1 - exponent

  def double(n, remainder):
    return jnp.where(n < shift, 2 * remainder % b, remainder)

  r = lax.fori_loop(0, MANTISSA, double, a % b)
  is_rounded_down = 2 * r < b
  error = t * jnp.where(is_rounded_down, r, b - r)
  spacing = 1 << jnp.maximum(_log2(quotient) - exponent, 0)
  is_inexact = (quotient > 0) & (r > 0)
  below = is_inexact & is_rounded_down
  # Below a power of 2 floats are twice as close.
  below = below & (2 * error * (1 + _is_power(quotient)) > spacing)
  # The subtraction rounds too: the step above `quotient` must be visible at the result's scale.
  other = jnp.maximum(last - quotient, 1)
  above = is_inexact & ~is_rounded_down & (2 * error > spacing)
  shows = _log2(other) - _is_power(other) <= _log2(quotient)
  return below, above & shows


def _log2(x):
  """floor(log2 x) of positive int32."""
  return 31 - lax.clz(jnp.maximum(x, 1))


def _is_power(x):
  """1 for a power of 2, else 0."""
  return (jax.lax.population_count(x) == 1).astype(jnp.int32)
