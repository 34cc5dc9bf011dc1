# SPDX-License-Identifier: Apache-2.0
"""Attention of new tokens to a cache of keys and values [B K S d].

A token at place p sees the cache slots 0 to p. With one new token per row, as in decoding, keys and
values are read without a copy. With several new tokens, a kernel of filax.ops.attention.dense is
used.
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

  Every segment is 1. attend: the kernel for more than one query per row. `*BK` are the axes B K, or
  one axis of their product.
  """
  if q.shape[1] == 1:
    return one_query(q, k, v, q_at[1])
  batch = q.shape[0]
  slots, d = k.shape[-2:]
  k = k.reshape(batch, -1, slots, d)
  v = v.reshape(batch, -1, slots, d)
  place = jnp.broadcast_to(jnp.arange(slots), (batch, slots))
  kv_at = (jnp.ones_like(place), place)  # Empty slots have later places than every query.
  k = jnp.swapaxes(k, 1, 2).astype(q.dtype)
  v = jnp.swapaxes(v, 1, 2).astype(q.dtype)
  return attend(q, k, v, q_at, kv_at)


def one_query(
  q: Float[Array, "B 1 H d"],
  k: Float[Array, "*BK S d"],
  v: Float[Array, "*BK S d"],
  place: Int[Array, "B 1"],
) -> Float[Array, "B 1 H d"]:
  """Attention of one query per row.

  Head h uses kv head h // (H/K); the G = H/K heads of a kv head are computed together. The softmax
  is in float32, and its weights are divided by their sum after the product with the values.
  """
  batch, _, heads, d = q.shape
  kv_axes = k.shape[:-2]  # B K, or one axis of their product.
  slots = k.shape[-2]
  kv_heads = math.prod(kv_axes) // batch
  grouped = q.reshape(*kv_axes, -1, d)
  scores = jnp.einsum("...Gd,...Sd->...GS", grouped, k, preferred_element_type=jnp.float32)
  last_seen = jnp.repeat(place[:, 0], kv_heads).reshape(*kv_axes, 1, 1)
  is_seen = jnp.arange(slots) <= last_seen
  # One number per slot, added to the scores. On a CPU, a `where` on the scores would read and write
  # them twice more.
  bias = jnp.where(is_seen, 0.0, MASKED)
  scores = scores * d**-0.5 + bias
  largest = scores.max(-1, keepdims=True)
  weights = jnp.exp(scores - largest)
  total = weights.sum(-1, keepdims=True)
  weights = weights.astype(v.dtype)
  out = jnp.einsum("...GS,...Sd->...Gd", weights, v, preferred_element_type=jnp.float32)
  out = out / total
  return out.reshape(batch, 1, heads, d).astype(q.dtype)
