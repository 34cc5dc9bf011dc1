# SPDX-License-Identifier: Apache-2.0
"""Causal attention within segments, with grouped heads. Every kernel has one signature.

attend(q, k, v, q_at, kv_at): `at` = (segment, place). A query attends to the keys of its own
segment whose place is not later than its own. A place is the index in the unsharded row or the
cache slot, never the rotary position, which may restart or skip.

  segment  1 1 2 2      keys that each query sees:   x . . .
  place    0 1 2 3                                   x x . .
                                                     . . x .
                                                     . . x x
"""

from collections.abc import Callable

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from filax.ops.attention.blockwise import MASKED, SAVED, blockwise
from filax.ops.attention.choice import choose_anywhere
from filax.ops.attention.device import device_in_use
from filax.ops.attention.tiles import At, KeysAt


def visible(q_at: At, kv_at: KeysAt) -> Bool[Array, "B L S"]:
  """Mask of the keys visible to each query."""
  q_segment, q_place = q_at
  kv_segment, kv_place = kv_at
  same_segment = q_segment[:, :, None] == kv_segment[:, None, :]
  not_later = q_place[:, :, None] >= kv_place[:, None, :]
  return same_segment & not_later


def dense(
  q: Float[Array, "B L H d"],
  k: Float[Array, "B S K d"],
  v: Float[Array, "B S K d"],
  q_at: At,
  kv_at: KeysAt,
) -> Float[Array, "B L H d"]:
  """Reference attention with an L x S score matrix.

  The softmax is in float32. Head h uses kv head h // (H/K).
  """
  out, _ = dense_with_lse(q, k, v, q_at, kv_at)
  return checkpoint_name(out.astype(q.dtype), SAVED)


def dense_with_lse(q, k, v, q_at: At, kv_at: KeysAt):
  """Attention output and log-sum-exp from a dense score matrix.

  Returns (output f32 [B L H d], log-sum-exp f32 [B L H]). G = H/K query heads share a kv head.
  """
  batch, length, heads, d = q.shape
  grouped = q.reshape(batch, length, k.shape[2], -1, d)
  scores = jnp.einsum("BLKGd,BSKd->BKGLS", grouped, k, preferred_element_type=jnp.float32)
  mask = visible(q_at, kv_at)[:, None, None]
  scaled = scores * d**-0.5
  scores = jnp.where(mask, scaled, MASKED)
  lse = jax.nn.logsumexp(scores, axis=-1)  # [B K G L]
  weights = jnp.exp(scores - lse[..., None])
  weights = weights.astype(v.dtype)
  out = jnp.einsum("BKGLS,BSKd->BLKGd", weights, v, preferred_element_type=jnp.float32)
  out = out.reshape(q.shape)
  lse = jnp.moveaxis(lse, 3, 1)
  return out, lse.reshape(batch, length, heads)


def auto(q, k, v, q_at, kv_at) -> Float[Array, "B L H d"]:
  """The faster one of `dense` and `blockwise` on the device; any layout."""
  name = choose_anywhere(device_in_use(), q.shape[1], k.shape[1])
  attend = dense if name == "dense" else blockwise
  return attend(q, k, v, q_at, kv_at)


# Queries of a cache start at a place that cuDNN cannot be told.
KERNELS = {"auto": auto, "dense": dense, "blockwise": blockwise, "cudnn": auto}


def attention_kernel(name: str) -> Callable[..., Float[Array, "B L H d"]]:
  """The function behind config.model.llm.attention, for any layout of queries and keys.

  Kernels for whole rows ("splash", and cuDNN's) are chosen by sequence_parallel.
  """
  if name not in KERNELS:
    raise ValueError(
      f"config.model.llm.attention={name!r} is unknown. Set it to one of "
      f"{', '.join([*KERNELS, 'splash'])}."
    )
  return KERNELS[name]
