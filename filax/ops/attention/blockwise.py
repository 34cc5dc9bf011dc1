# SPDX-License-Identifier: Apache-2.0
"""Attention over blocks of keys with a running softmax (arXiv:2112.05682, arXiv:2205.14135).

Plain XLA, for any backend and any layout: masks come from (segment, place) alone. Keys may come in
parts: `with_lse` and `merge` go forward, `gradients` backward (ring attention).
"""

from functools import partial

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

At = tuple[Int[Array, "B L"], Int[Array, "B L"]]  # (segment, place) of queries,
KeysAt = tuple[Int[Array, "B S"], Int[Array, "B S"]]  # of keys.

MASKED = -1e30  # Finite, so that a query without keys yields zeros, not NaN.
SAVED = "attn"  # The name under which rematerialisation may keep what the backward pass needs.
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


def merge(a, b):
  """Two (output, log-sum-exp) of the same queries over disjoint keys -> those over all keys."""
  (out_a, lse_a), (out_b, lse_b) = a, b
  lse = jnp.logaddexp(lse_a, lse_b)
  share = lambda part: jnp.exp(part - lse)[..., None]
  return out_a * share(lse_a) + out_b * share(lse_b), lse


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(q, k, v, q_at, kv_at, block):
  return with_lse(q, k, v, q_at, kv_at, block)[0]


def _forward(q, k, v, q_at, kv_at, block):
  out, lse = (checkpoint_name(x, SAVED) for x in with_lse(q, k, v, q_at, kv_at, block))
  return out, (q, k, v, q_at, kv_at, out, lse)


def _backward(block, saved, d_out):
  *given, out, lse = saved
  slopes = gradients(*given, lse, (d_out * out).sum(-1), d_out, block)
  return *(d.astype(x.dtype) for d, x in zip(slopes, given[:3], strict=True)), None, None


_attend.defvjp(_forward, _backward)


def with_lse(q, k, v, q_at: At, kv_at: KeysAt, block: int = 512):
  """(output f32 [B L H d], log-sum-exp f32 [B L H]); of a query without keys: (0, MASKED)."""
  q, q_at, kv_at = _together(q, q_at, kv_at)
  grouped, parts = _grouped(q, k.shape[2]), _parts(k, v, kv_at, block)

  def step(carry, part):
    top, total, out = carry
    k, v, segment, place = part
    s, keep = _scores(grouped, k, q_at, segment, place)
    new = jnp.maximum(top, s.max(-1))
    old = jnp.exp(top - new)
    p = jnp.where(keep, jnp.exp(s - new[..., None]), 0.0)
    add = jnp.einsum("BKGLb,BbKd->BKGLd", p.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return (new, total * old + p.sum(-1), out * old[..., None] + add), None

  zeros = _varying(jnp.zeros_like(grouped, jnp.float32), q, k)
  (top, total, out), _ = lax.scan(step, (zeros[..., 0] + MASKED, zeros[..., 0], zeros), parts)
  seen = total > 0
  total = jnp.where(seen, total, 1.0)
  out = jnp.where(seen[..., None], out / total[..., None], 0.0)
  lse = jnp.where(seen, top + jnp.log(total), MASKED)
  return _ungrouped(out), _ungrouped(lse[..., None])[..., 0]


def gradients(q, k, v, q_at: At, kv_at: KeysAt, lse, delta, d_out, block: int = 512):
  """(d_q, d_k, d_v) in float32, of these keys' part in attention over more of them.

  `lse` f32 [B L H] is over all keys, `delta` f32 [B L H] the sum of d_out · output over d.
  """
  q, q_at, kv_at = _together(q, q_at, kv_at)
  kv_heads, scale, keys = k.shape[2], q.shape[-1] ** -0.5, k.shape[1]
  grouped = _grouped(q, kv_heads)
  lse, delta = (_grouped(x[..., None], kv_heads) for x in (lse, delta))
  d_out = _grouped(d_out.astype(q.dtype), kv_heads)
  product = partial(jnp.einsum, preferred_element_type=jnp.float32)

  def step(d_q, part):
    k, v, segment, place = part
    s, keep = _scores(grouped, k, q_at, segment, place)
    p = jnp.where(keep, jnp.exp(s - lse), 0.0)
    d_v = product("BKGLb,BKGLd->BbKd", p.astype(d_out.dtype), d_out)
    d_s = p * (product("BKGLd,BbKd->BKGLb", d_out, v) - delta) * scale
    d_s = d_s.astype(q.dtype)
    d_k = product("BKGLb,BKGLd->BbKd", d_s, grouped)
    return d_q + product("BKGLb,BbKd->BKGLd", d_s, k), (d_k, d_v)

  start = _varying(jnp.zeros_like(grouped, jnp.float32), q, k)
  d_q, (d_k, d_v) = lax.scan(step, start, _parts(k, v, kv_at, block))
  joined = lambda x: jnp.moveaxis(x, 0, 1).reshape(k.shape[0], -1, *k.shape[2:])[:, :keys]
  return _ungrouped(d_q), joined(d_k), joined(d_v)


def _together(q, q_at: At, kv_at: KeysAt):
  """Ties places to queries: masks, which do not depend on the layer, would else be taken out of a
  loop over layers and kept for all blocks at once, L x S of them."""
  return lax.optimization_barrier((q, q_at, kv_at))


def _parts(k, v, kv_at: KeysAt, block: int):
  """(k, v, segment, place) in blocks [S/block B block ...]; the last one is filled up."""
  block = min(block, k.shape[1])
  pad = -k.shape[1] % block

  def split(x, value=0):
    if pad:
      x = jnp.pad(x, ((0, 0), (0, pad), *((0, 0),) * (x.ndim - 2)), constant_values=value)
    return jnp.moveaxis(x.reshape(x.shape[0], -1, block, *x.shape[2:]), 1, 0)

  return split(k), split(v), split(kv_at[0], _NOWHERE), split(kv_at[1])


def _grouped(q, kv_heads):
  """[B L H d] -> [B K G L d] with H = K·G: head h uses kv head h // G."""
  return jnp.moveaxis(q.reshape(*q.shape[:2], kv_heads, -1, q.shape[-1]), 1, 3)


def _ungrouped(x):
  """[B K G L d] -> [B L H d]."""
  x = jnp.moveaxis(x, 3, 1)
  return x.reshape(*x.shape[:2], -1, x.shape[-1])


def _scores(q, k, q_at, segment, place):
  """Scaled scores f32 [B K G L b] of one block of keys and the mask [B 1 1 L b]."""
  s = jnp.einsum("BKGLd,BbKd->BKGLb", q, k, preferred_element_type=jnp.float32)
  keep = (q_at[0][:, :, None] == segment[:, None]) & (q_at[1][:, :, None] >= place[:, None])
  keep = keep[:, None, None]
  return jnp.where(keep, s * q.shape[-1] ** -0.5, MASKED), keep


def _varying(x, q, k):
  """Inside shard_map a carry must vary over every axis that queries or keys vary over."""
  missing = tuple((_axes(q) | _axes(k)) - _axes(x))
  return lax.pcast(x, missing, to="varying") if missing else x


def _axes(x) -> frozenset:
  return getattr(jax.typeof(x), "vma", frozenset())
