# SPDX-License-Identifier: Apache-2.0
"""Attention over blocks of keys with a running softmax (arXiv:2112.05682, arXiv:2205.14135).

Plain XLA, for any backend and any layout: masks come from (segment, place) alone. Ring attention
splits keys into parts: it uses `with_lse` and `merge_parts` in the forward pass, `gradients` in the
backward pass.

Letters of einsums: B batch, L queries, S keys, b keys of a block, K kv heads, G query heads of a
kv head (H = K·G), d head size.
"""

from functools import partial

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from filax.ops import chunks

At = tuple[Int[Array, "B L"], Int[Array, "B L"]]  # (segment, place) of queries,
KeysAt = tuple[Int[Array, "B S"], Int[Array, "B S"]]  # of keys.

MASKED = -1e30  # Finite, so that a query without keys yields zeros, not NaN.
SAVED = "attn"  # Checkpoint name of the outputs that the backward pass needs.
_NOWHERE = -1  # The segment of keys that only fill up a block.


def blockwise(
  q: Float[Array, "B L H d"],
  k: Float[Array, "B S K d"],
  v: Float[Array, "B S K d"],
  q_at: At,
  kv_at: KeysAt,
  block: int = 512,
) -> Float[Array, "B L H d"]:
  """`attention.dense` in O(L · block) memory, forward and backward."""
  return _attend(q, k, v, q_at, kv_at, block).astype(q.dtype)


def merge_parts(a, b):
  """Merges the attention of the same queries over disjoint keys.

  `a`, `b` and the result are (output, log-sum-exp).
  """
  out_a, lse_a = a
  out_b, lse_b = b
  lse = jnp.logaddexp(lse_a, lse_b)
  share_a = jnp.exp(lse_a - lse)
  weighted_a = out_a * share_a[..., None]
  share_b = jnp.exp(lse_b - lse)
  weighted_b = out_b * share_b[..., None]
  return weighted_a + weighted_b, lse


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(q, k, v, q_at, kv_at, block):
  out, _ = with_lse(q, k, v, q_at, kv_at, block)
  return out


def _forward(q, k, v, q_at, kv_at, block):
  out, lse = with_lse(q, k, v, q_at, kv_at, block)
  out = checkpoint_name(out, SAVED)
  lse = checkpoint_name(lse, SAVED)
  return out, (q, k, v, q_at, kv_at, out, lse)


def _backward(block, saved, d_out):
  q, k, v, q_at, kv_at, out, lse = saved
  delta = (d_out * out).sum(-1)
  d_q, d_k, d_v = gradients(q, k, v, q_at, kv_at, lse, delta, d_out, block)
  d_q = d_q.astype(q.dtype)
  d_k = d_k.astype(k.dtype)
  d_v = d_v.astype(v.dtype)
  return d_q, d_k, d_v, None, None


_attend.defvjp(_forward, _backward)


def with_lse(q, k, v, q_at: At, kv_at: KeysAt, block: int = 512):
  """Attention output and log-sum-exp, a block of keys at a time.

  Returns (output f32 [B L H d], log-sum-exp f32 [B L H]); (0, MASKED) for a query without keys.
  Let m be the largest score so far. Each block first scales the sums of the blocks before it by
  exp(m_before - m):

    total = total · exp(m_before - m) + sum exp(score - m)
    out   = out   · exp(m_before - m) + sum exp(score - m) · v
  """
  q, q_at, kv_at = _together(q, q_at, kv_at)
  grouped = _grouped(q, k.shape[2])
  parts = _parts(k, v, kv_at, block)
  product = partial(jnp.einsum, preferred_element_type=jnp.float32)

  def add_block(carry, part):
    largest, total, out = carry
    k, v, segment, place = part
    score, mask = _scores(grouped, k, q_at, segment, place)
    new_largest = jnp.maximum(largest, score.max(-1))
    scale = jnp.exp(largest - new_largest)
    p = jnp.exp(score - new_largest[..., None])
    p = jnp.where(mask, p, 0.0)
    added = product("BKGLb,BbKd->BKGLd", p.astype(v.dtype), v)
    total = total * scale + p.sum(-1)
    out = out * scale[..., None] + added
    return (new_largest, total, out), None

  zeros = jnp.zeros_like(grouped, jnp.float32)  # [B K G L d]
  zeros = _varying(zeros, q, k)
  start = (zeros[..., 0] + MASKED, zeros[..., 0], zeros)
  carry, _ = lax.scan(add_block, start, parts)
  largest, total, out = carry
  has_keys = total > 0
  total = jnp.where(has_keys, total, 1.0)
  out = jnp.where(has_keys[..., None], out / total[..., None], 0.0)
  lse = jnp.where(has_keys, largest + jnp.log(total), MASKED)
  out = _ungrouped(out)
  lse = _ungrouped(lse[..., None])
  return out, lse[..., 0]


def gradients(
  q,
  k,
  v,
  q_at: At,
  kv_at: KeysAt,
  lse,
  delta,
  d_out,
  block: int = 512,
):
  """Gradients of attention for the queries and one part of the keys.

  Returns (d_q, d_k, d_v) in float32. `k` and `v` may be a part of all keys; `lse` f32 [B L H] is
  the log-sum-exp over all keys, and `delta` f32 [B L H] is the sum of d_out · output over d. With
  p = exp(score - lse), d_score = p · (d_out · v - delta).
  """
  q, q_at, kv_at = _together(q, q_at, kv_at)
  kv_heads = k.shape[2]
  scale = q.shape[-1] ** -0.5
  grouped = _grouped(q, kv_heads)
  lse = _grouped(lse[..., None], kv_heads)
  delta = _grouped(delta[..., None], kv_heads)
  d_out = d_out.astype(q.dtype)
  d_out = _grouped(d_out, kv_heads)
  product = partial(jnp.einsum, preferred_element_type=jnp.float32)

  def block_gradients(d_q, part):
    k, v, segment, place = part
    score, mask = _scores(grouped, k, q_at, segment, place)
    p = jnp.exp(score - lse)
    p = jnp.where(mask, p, 0.0)
    d_v = product("BKGLb,BKGLd->BbKd", p.astype(d_out.dtype), d_out)
    d_p = product("BKGLd,BbKd->BKGLb", d_out, v)
    d_score = (p * (d_p - delta) * scale).astype(q.dtype)
    d_k = product("BKGLb,BKGLd->BbKd", d_score, grouped)
    d_q = d_q + product("BKGLb,BbKd->BKGLd", d_score, k)
    return d_q, (d_k, d_v)

  zeros = jnp.zeros_like(grouped, jnp.float32)
  zeros = _varying(zeros, q, k)
  parts = _parts(k, v, kv_at, block)
  d_q, (d_k, d_v) = lax.scan(block_gradients, zeros, parts)
  d_q = _ungrouped(d_q)
  d_k = chunks.join(d_k, k.shape[1])
  d_v = chunks.join(d_v, k.shape[1])
  return d_q, d_k, d_v


def _together(q, q_at: At, kv_at: KeysAt):
  """Ties places to queries, so that masks stay inside the layer loop.

  Masks do not depend on the layer. Without this tie XLA would move them out of the loop and keep
  the masks of all blocks, L x S, in memory.
  """
  return lax.optimization_barrier((q, q_at, kv_at))


def _parts(k, v, kv_at: KeysAt, block: int):
  """Keys, values, segments and places cut into blocks.

  Shapes are [S/block B block ...]; the last block is padded.
  """
  block = min(block, k.shape[1])
  segment, place = kv_at
  return (
    _cut(k, block),
    _cut(v, block),
    _cut(segment, block, _NOWHERE),
    _cut(place, block),
  )


def _cut(x, block: int, value: int = 0):
  """[B S ...] -> [S/block B block ...], filled up with `value`."""
  if x.shape[1] % block:
    x = chunks.pad(x, block, value)
  return chunks.cut(x, block)


def _grouped(q, kv_heads):
  """Queries grouped by their kv head.

  [B L H d] -> [B K G L d] with H = K·G: head h uses kv head h // G.
  """
  batch, length, _, d = q.shape
  groups = q.reshape(batch, length, kv_heads, -1, d)
  return jnp.moveaxis(groups, 1, 3)


def _ungrouped(x):
  """[B K G L d] -> [B L H d]."""
  x = jnp.moveaxis(x, 3, 1)
  batch, length, _, _, d = x.shape
  return x.reshape(batch, length, -1, d)


def _scores(q, k, q_at, segment, place):
  """Scaled scores and the mask of one block of keys.

  Scores are f32 [B K G L b], the mask is [B 1 1 L b].
  """
  scores = jnp.einsum("BKGLd,BbKd->BKGLb", q, k, preferred_element_type=jnp.float32)
  q_segment, q_place = q_at
  same_segment = q_segment[:, :, None] == segment[:, None]
  not_later = q_place[:, :, None] >= place[:, None]
  mask = same_segment & not_later
  mask = mask[:, None, None]
  scaled = scores * q.shape[-1] ** -0.5
  return jnp.where(mask, scaled, MASKED), mask


def _varying(x, q, k):
  """Marks x as varying over every mesh axis of q and k.

  shard_map requires this of a scan's carry.
  """
  missing = tuple((_axes(q) | _axes(k)) - _axes(x))
  return lax.pcast(x, missing, to="varying") if missing else x


def _axes(x) -> frozenset:
  return getattr(jax.typeof(x), "vma", frozenset())
