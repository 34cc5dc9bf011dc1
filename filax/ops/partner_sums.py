# SPDX-License-Identifier: Apache-2.0
"""Sums of the tokens that share a partner, in float32 on any device.

On a CPU each token is added to its partner's row. An accelerator would do these additions in an
order that changes from run to run, so there the sum is a matrix product with the one-hot matrix of
the partners.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# bfloat16 has 8 exponent bits, as float32, and 7 of its 23 mantissa bits. The implicit leading bit
# of every part brings 3 parts to the 24 significant bits of float32.
_EXPONENT_BITS = 8
_MANTISSA_BITS = 7
_PARTS = 3


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def sum_by_partner(
  x: Float[Array, "b a e"], partner: Int[Array, "b a"], count: int
) -> Float[Array, "b c e"]:
  """Adds the tokens that have the same partner.

  Row c of the result is the sum of the float32 tokens whose partner is c, of `count` partners. The
  gradient copies the slope of a partner to each of its tokens.
  """

  def add_rows(x, partner):
    zeros = jnp.zeros((count, x.shape[-1]), x.dtype)
    return jax.vmap(lambda rows, index: zeros.at[index].add(rows))(x, partner)

  def multiply(x, partner):
    return sum_by_product(x, partner, count)

  return lax.platform_dependent(x, partner, cpu=add_rows, default=multiply)


def _forward(x, partner, count):
  return sum_by_partner(x, partner, count), partner


def _backward(count, partner, slope):
  del count
  return jnp.take_along_axis(slope, partner[..., None], axis=1), None


sum_by_partner.defvjp(_forward, _backward)


def sum_by_product(
  x: Float[Array, "b a e"], partner: Int[Array, "b a"], count: int, dtype=jnp.bfloat16
) -> Float[Array, "b c e"]:
  """`sum_by_partner` as one product, whose result is float32.

  Its factors are bfloat16, or another `dtype`: ones, zeros and the parts of x have no rounding
  errors. So the product is as exact as one of float32 factors, for which a device needs six passes.
  """
  pairs = jax.nn.one_hot(partner, count, dtype=dtype)
  parts = jnp.stack(bfloat16_parts(x), 2).astype(dtype)
  sums = jnp.einsum("bac,bape->bcpe", pairs, parts, preferred_element_type=jnp.float32)
  return sums.sum(2)


def bfloat16_parts(x: Float[Array, "..."]) -> list[Float[Array, "..."]]:
  """Three bfloat16 arrays whose sum is the float32 x.

  The first has the leading digits.
  """
  parts = []
  for _ in range(_PARTS):
    # A conversion there and back could be left out by the compiler; this one is kept.
    part = lax.reduce_precision(x, _EXPONENT_BITS, _MANTISSA_BITS)
    parts.append(part.astype(jnp.bfloat16))
    x = x - part
  return parts
