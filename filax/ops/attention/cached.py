# SPDX-License-Identifier: Apache-2.0
"""Attention of new tokens to a cache of keys and values [B K S d].

A token sees the slots up to its place. One token a row, as in decoding, reads keys and values where
they lie; several tokens use a kernel of filax.ops.attention.dense.
"""

from collections.abc import Callable
import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from filax.ops.attention.blockwise import MASKED


def cached(
  attend: Callable[..., Float[Array, "B L H d"]],
  q: Float[Array, "B L H d"],
  k: Float[Array, "*BK S d"],
  v: Float[Array, "*BK S d"],
  q_at: tuple[Int[Array, "B L"], Int[Array, "B L"]],
) -> Float[Array, "B L H d"]:
  """Attention of the queries at `q_at` = (segment, place).

  Every segment is 1. `*BK` is B K or their product. `attend` is the kernel for more than one query
  a row.
  """
  if q.shape[1] == 1:
    return one_query(q, k, v, q_at[1])
  batch = q.shape[0]
  slots, d = k.shape[-2:]
  k = k.reshape(batch, -1, slots, d)
  v = v.reshape(batch, -1, slots, d)
  place = jnp.broadcast_to(jnp.arange(slots), (batch, slots))
  kv_at = (jnp.ones_like(place), place)  # Slots without a token lie after every query.
  k = jnp.swapaxes(k, 1, 2).astype(q.dtype)
  v = jnp.swapaxes(v, 1, 2).astype(q.dtype)
  return attend(q, k, v, q_at, kv_at)


def one_query(
  q: Float[Array, "B 1 H d"],
  k: Float[Array, "*BK S d"],
  v: Float[Array, "*BK S d"],
  place: Int[Array, "B 1"],
) -> Float[Array, "B 1 H d"]:
  """Attention of one query a row.

  Head h uses kv head h // (H/K). Softmax in float32. The weights are normalised after the product
  with the values.
  """
  batch, _, heads, d = q.shape
  lead = k.shape[:-2]
  rows = math.prod(lead)
  grouped = q.reshape(*lead, -1, d)
  scores = jnp.einsum("...Gd,...Sd->...GS", grouped, k, preferred_element_type=jnp.float32)
  last_seen = jnp.repeat(place[:, 0], rows // batch).reshape(*lead, 1, 1)
  bias = jnp.where(jnp.arange(k.shape[-2]) <= last_seen, 0.0, MASKED)  # One number a slot.
  scores = scores * d**-0.5 + bias  # A select instead would be two more passes on a CPU.
  largest = scores.max(-1, keepdims=True)
  weights = jnp.exp(scores - largest)
  total = weights.sum(-1, keepdims=True)
  weights = weights.astype(v.dtype)
  out = jnp.einsum("...GS,...Sd->...Gd", weights, v, preferred_element_type=jnp.float32)
  out = out / total
  return out.reshape(batch, 1, heads, d).astype(q.dtype)
