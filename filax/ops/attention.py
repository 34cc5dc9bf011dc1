# SPDX-License-Identifier: Apache-2.0
"""Causal attention within segments, with grouped heads. Every spelling has one signature.

attend(q, k, v, q_at, kv_at): `at` = (segment, place). A query sees the keys of its own segment
whose place is not later than its own. Place is the index in the unsharded row or the cache slot,
never the rotary position, which may restart or skip.
"""

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

At = tuple[Int[Array, "B L"], Int[Array, "B L"]]  # (segment, place)

_MASKED = -1e30  # Finite: a row of nothing but masked keys stays free of NaN.


def visible(q_at: At, kv_at: At) -> Bool[Array, "B L S"]:
  """Which keys a query may see."""
  (q_segment, q_place), (kv_segment, kv_place) = q_at, kv_at
  same = q_segment[:, :, None] == kv_segment[:, None, :]
  return same & (q_place[:, :, None] >= kv_place[:, None, :])


def dense(
  q: Float[Array, "B L H d"],
  k: Float[Array, "B S K d"],
  v: Float[Array, "B S K d"],
  q_at: At,
  kv_at: At,
) -> Float[Array, "B L H d"]:
  """The reference: an L x S score matrix, softmax in float32. Head h uses kv head h // (H/K)."""
  batch, length, heads, d = q.shape
  q = q.reshape(batch, length, k.shape[2], -1, d)
  scores = jnp.einsum("BLKGd,BSKd->BKGLS", q, k, preferred_element_type=jnp.float32) * d**-0.5
  scores = jnp.where(visible(q_at, kv_at)[:, None, None], scores, _MASKED)
  weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
  return jnp.einsum("BKGLS,BSKd->BLKGd", weights, v).reshape(batch, length, heads, d)


def blockwise(
  q: Float[Array, "B L H d"],
  k: Float[Array, "B S K d"],
  v: Float[Array, "B S K d"],
  q_at: At,
  kv_at: At,
  block: int = 512,
) -> Float[Array, "B L H d"]:
  """`dense` over blocks of queries, computed again in the backward pass: memory O(block · S)."""
  length = q.shape[1]
  if length <= block:
    return dense(q, k, v, q_at, kv_at)
  pad = -length % block
  split = lambda x: jnp.moveaxis(
    jnp.pad(x, ((0, 0), (0, pad), *((0, 0),) * (x.ndim - 2))).reshape(
      x.shape[0], -1, block, *x.shape[2:]), 1, 0)
  one = jax.checkpoint(lambda part: dense(part[0], k, v, part[1], kv_at))
  out = lax.map(one, (split(q), tuple(map(split, q_at))))
  return jnp.moveaxis(out, 0, 1).reshape(q.shape[0], -1, *q.shape[2:])[:, :length]


def auto(q, k, v, q_at, kv_at) -> Float[Array, "B L H d"]:
  """`dense` while the scores are small, else `blockwise`."""
  small = q.shape[1] * k.shape[1] <= 2048**2
  return (dense if small else blockwise)(q, k, v, q_at, kv_at)


KINDS = {"auto": auto, "dense": dense, "blockwise": blockwise}


def kind(name: str):
  """The function behind config.model.llm.attention."""
  if name not in KINDS:
    raise ValueError(
      f"config.model.llm.attention={name!r} is unknown. Set it to one of {', '.join(KINDS)}.")
  return KINDS[name]
