# SPDX-License-Identifier: Apache-2.0
"""Attention over tiles of scores with a running softmax (arXiv:2112.05682, arXiv:2205.14135).

This kernel is plain XLA and works on any backend. It works for any layout of rows, because masks
depend only on (segment, place). Tiles without a visible key are computed neither forward nor
backward, and tiles in which every key is visible need no mask.

Ring attention splits the keys into parts. It uses `with_lse` and `merge_parts` in the forward pass,
and `gradients` in the backward pass.

Letters in einsums: B rows of a group, l queries of a tile, b keys of a tile, K kv heads, G query
heads of a kv head (H = K·G), d head size. Letters in shapes: R groups of rows, which are computed
one after the other, n blocks of queries, m blocks of keys.
"""

import dataclasses
from functools import partial
import math

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.ops import chunks
from filax.ops.attention import tiles
from filax.ops.attention.device import device_in_use, rows_are_local
from filax.ops.attention.tiles import At, KeysAt

MASKED = -1e30  # A finite score, so that a query without keys gives zeros instead of NaN.
SAVED = "attn"  # The checkpoint name of outputs that the backward pass needs.
LARGE_TILE = (1024, 1024)  # On an accelerator, few large products are faster.
CPU_ROWS = 1024  # On a CPU: queries of a tile, times query heads of a kv head.

_product = partial(jnp.einsum, preferred_element_type=jnp.float32)


def blockwise(
  q: Float[Array, "B L H d"],
  k: Float[Array, "B S K d"],
  v: Float[Array, "B S K d"],
  q_at: At,
  kv_at: KeysAt,
  block: int = 0,
) -> Float[Array, "B L H d"]:
  """Computes what `attention.dense` does, in O(L · block) memory, forward and backward.

  block: the number of queries, and of keys, of a tile; 0 chooses it by the device.
  """
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


def with_lse(q, k, v, q_at: At, kv_at: KeysAt, block: int = 0):
  """Attention output and log-sum-exp, tile by tile.

  Returns (output f32 [B L H d], log-sum-exp f32 [B L H]). A query without keys gives (0, MASKED).
  Let m be the largest score so far. Each tile first scales the sums of the tiles before it by
  exp(m_before - m), and then adds its own terms:

    total = total · exp(m_before - m) + sum exp(score - m)
    out   = out   · exp(m_before - m) + sum exp(score - m) · v
  """
  grid = _grid(q, k, block)
  parts = (
    grid.cut_queries(q),
    grid.cut_keys(k),
    grid.cut_keys(v),
    *grid.places(q_at, kv_at),
  )
  out, lse = lax.map(partial(_attend_rows, grid.scale), parts)
  return grid.join_queries(out), grid.join_queries(lse)[..., 0]


def _attend_rows(scale: float, parts):
  """(output, log-sum-exp) of a group of rows, block by block."""
  queries, keys, values, q_at, kv_at, schedule = parts

  def attend_block(part):
    q, q_at, schedule = part

    def add_tile(block, carry, masked):
      largest, total, out = carry
      score = _product("BKGld,BKbd->BKGlb", q, _pick(keys, block)) * scale
      if masked:
        mask = _mask(q_at, kv_at, block)
        score = jnp.where(mask, score, 2 * MASKED)  # Below `largest`: the weight is 0.
      new_largest = jnp.maximum(largest, score.max(-1))
      shrink = jnp.exp(largest - new_largest)
      p = jnp.exp(score - new_largest[..., None])
      total = total * shrink + p.sum(-1)
      added = _product("BKGlb,BKbd->BKGld", p.astype(values.dtype), _pick(values, block))
      out = out * shrink[..., None] + added
      return new_largest, total, out

    zeros = tiles.varying_like(jnp.zeros(q.shape, jnp.float32), parts)
    start = (zeros[..., 0] + MASKED, zeros[..., 0], zeros)
    largest, total, out = tiles.visit(schedule, add_tile, start)
    has_keys = total > 0
    total = jnp.where(has_keys, total, 1.0)
    out = out / total[..., None]
    lse = jnp.where(has_keys, largest + jnp.log(total), MASKED)
    return out, lse[..., None]

  return lax.map(attend_block, (queries, q_at, schedule))


def gradients(
  q,
  k,
  v,
  q_at: At,
  kv_at: KeysAt,
  lse,
  delta,
  d_out,
  block: int = 0,
):
  """Gradients of attention for the queries and one part of the keys.

  Returns (d_q, d_k, d_v) in float32. `k` and `v` may be a part of all keys; `lse` f32 [B L H] is
  the log-sum-exp over all keys, and `delta` f32 [B L H] is the sum of d_out · output over d. With
  p = exp(score - lse), d_score = p · (d_out · v - delta).
  """
  grid = _grid(q, k, block)
  parts = (
    grid.cut_queries(q),
    grid.cut_queries(d_out.astype(q.dtype)),
    grid.cut_queries(lse[..., None]),
    grid.cut_queries(delta[..., None]),
    grid.cut_keys(k),
    grid.cut_keys(v),
    *grid.places(q_at, kv_at),
  )
  d_q, d_k, d_v = lax.map(partial(_gradients_of_rows, grid.scale), parts)
  return grid.join_queries(d_q), grid.join_keys(d_k), grid.join_keys(d_v)


def _gradients_of_rows(scale: float, parts):
  """(d_q, d_k, d_v) of a group of rows, block by block.

  Tiles have keys before queries, so that no product needs a transposed copy of a tile.
  """
  queries, d_outs, lses, deltas, keys, values, q_at, kv_at, schedule = parts

  def block_gradients(d_keys, part):
    q, d_out, lse, delta, q_at, schedule = part
    q_across = _across(q)
    d_out_across = _across(d_out)
    lse = _across(lse)
    delta = _across(delta)

    def add_tile(block, carry, masked):
      d_q, d_k, d_v = carry
      k = _pick(keys, block)
      score = _product("BKbd,BKdGl->BKbGl", k, q_across) * scale
      p = jnp.exp(score - lse)
      if masked:
        mask = _mask(q_at, kv_at, block)
        p = jnp.where(jnp.moveaxis(mask, 4, 2), p, 0.0)
      d_p = _product("BKbd,BKdGl->BKbGl", _pick(values, block), d_out_across)
      d_score = (p * (d_p - delta) * scale).astype(q.dtype)
      d_v = _add(d_v, block, _product("BKbGl,BKGld->BKbd", p.astype(q.dtype), d_out))
      d_k = _add(d_k, block, _product("BKbGl,BKGld->BKbd", d_score, q))
      d_q = d_q + _product("BKbd,BKbGl->BKdGl", k, d_score)
      return d_q, d_k, d_v

    zeros = tiles.varying_like(jnp.zeros(q_across.shape, jnp.float32), parts)
    d_q, d_k, d_v = tiles.visit(schedule, add_tile, (zeros, *d_keys))
    return (d_k, d_v), jnp.moveaxis(d_q, 2, 4)

  zeros = tiles.varying_like(jnp.zeros(keys.shape, jnp.float32), parts)
  blocks = (queries, d_outs, lses, deltas, q_at, schedule)
  (d_k, d_v), d_q = lax.scan(block_gradients, (zeros, zeros), blocks)
  return d_q, d_k, d_v


@dataclasses.dataclass(frozen=True)
class _Grid:
  """How the rows of one call are cut into blocks and groups."""

  batch: int
  length: int
  keys: int
  kv_heads: int
  rows: int  # Rows that are computed together.
  query_block: int
  key_block: int
  scale: float

  def cut_queries(self, x):
    """[B L H d] -> [R n rows K G l d]."""
    x = _pad(x, self.query_block)
    _, _, _, size = x.shape
    x = x.reshape(
      -1,
      self.rows,
      x.shape[1] // self.query_block,
      self.query_block,
      self.kv_heads,
      x.shape[2] // self.kv_heads,
      size,
    )
    return jnp.transpose(x, (0, 2, 1, 4, 5, 3, 6))

  def join_queries(self, x):
    """[R n rows K G l d] -> [B L H d]."""
    x = jnp.transpose(x, (0, 2, 1, 5, 3, 4, 6))
    x = x.reshape(self.batch, x.shape[2] * x.shape[3], -1, x.shape[-1])
    return x[:, : self.length]

  def cut_keys(self, x):
    """[B S K d] -> [R m rows K b d]."""
    x = _pad(x, self.key_block)
    x = x.reshape(-1, self.rows, x.shape[1] // self.key_block, self.key_block, *x.shape[2:])
    return jnp.transpose(x, (0, 2, 1, 4, 3, 5))

  def join_keys(self, x):
    """[R m rows K b d] -> [B S K d]."""
    x = jnp.transpose(x, (0, 2, 1, 4, 3, 5))
    x = x.reshape(self.batch, -1, self.kv_heads, x.shape[-1])
    return x[:, : self.keys]

  def places(self, q_at: At, kv_at: KeysAt):
    """Places of queries and keys, and the schedule.

    [R n rows l], [R m rows b] and [R n ...].
    """
    q_at = tiles.cut_queries(q_at, self.query_block)
    kv_at = tiles.cut_keys(kv_at, self.key_block)
    schedule = tiles.schedule(q_at, kv_at, self.rows)
    return self._grouped(q_at), self._grouped(kv_at), schedule

  def _grouped(self, at):
    """[B n l] -> [R n rows l]."""
    segment, place = (jnp.swapaxes(x.reshape(-1, self.rows, *x.shape[1:]), 1, 2) for x in at)
    return segment, place


def cpu_tile(group: int) -> tuple[int, int]:
  """(queries, keys) of a tile on a CPU.

  group: the number of query heads of a kv head, which share the product of a tile. If a product has
  few rows, XLA computes it on one core. Tiles for groups of 1, 2, 4 and 7 were measured
  (benchmarks/LOG.md).
  """
  queries = 2 ** round(math.log2(CPU_ROWS / group))
  if group == 1:
    return queries // 2, 256
  return queries, 128


def _grid(q, k, block: int) -> _Grid:
  batch, length, _, size = q.shape
  kv_heads = k.shape[2]
  queries, keys = LARGE_TILE
  if device_in_use().platform == "cpu":
    queries, keys = cpu_tile(q.shape[2] // kv_heads)
  return _Grid(
    batch=batch,
    length=length,
    keys=k.shape[1],
    kv_heads=kv_heads,
    rows=1 if rows_are_local() else batch,
    query_block=min(block or queries, length),
    key_block=min(block or keys, k.shape[1]),
    scale=size**-0.5,
  )


def _pad(x, block: int):
  return chunks.pad(x, block) if x.shape[1] % block else x


def _across(x):
  """Moves queries to the last axis.

  [B K G l d] -> [B K d G l].
  """
  return jnp.moveaxis(x, 4, 2)


def _pick(x, block):
  """Block number `block` of x [m ...]."""
  return lax.dynamic_index_in_dim(x, block, keepdims=False)


def _add(x, block, added):
  """Adds to block number `block` of x [m ...].

  In a loop, the addition is in place.
  """
  return lax.dynamic_update_index_in_dim(x, _pick(x, block) + added, block, 0)


def _mask(q_at, kv_at, block):
  """The visible keys of a tile, [B 1 1 l b]."""
  q_segment, q_place = q_at
  segment = _pick(kv_at[0], block)
  place = _pick(kv_at[1], block)
  same_segment = q_segment[:, :, None] == segment[:, None]
  not_later = q_place[:, :, None] >= place[:, None]
  mask = same_segment & not_later
  return mask[:, None, None]
