# SPDX-License-Identifier: Apache-2.0
"""Tiles of the score matrix: which of them hold a visible key, and in which order to visit them.

A tile is the scores of `queries` queries and `keys` keys. The extreme segments and places of its
queries and keys tell whether it is empty (never computed), full (every key is visible: no mask) or
partial. Places are traced arrays, so any layout works: packed rows, zig-zag order, a cache.

  segment 1 1 2 2 2 2, tiles of 2 x 2:   partial  .        .
                                         .        partial  .
                                         .        full     partial
"""

from collections.abc import Callable
import dataclasses

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

At = tuple[Int[Array, "B L"], Int[Array, "B L"]]  # (segment, place) of queries,
KeysAt = tuple[Int[Array, "B S"], Int[Array, "B S"]]  # of keys.
Blocks = tuple[Int[Array, "B n l"], Int[Array, "B n l"]]  # The same, cut into blocks.

_FIRST = jnp.iinfo(jnp.int32).min  # The place of a query that only fills up a tile: no key.
_LAST = jnp.iinfo(jnp.int32).max  # The place of a key that only fills up a tile: no query.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Schedule:
  """The tiles to compute for each block of queries.

  Blocks of keys `order[:full]` are full, `order[full:live]` are partial, the others are empty.
  """

  order: Int[Array, "... blocks"]
  full: Int[Array, "..."]
  live: Int[Array, "..."]


def _cut_places(at, size: int, place_of_padding: int) -> Blocks:
  """Segments and places [B L] in blocks, each [B L/size size].

  The last block is filled up with its last segment, at `place_of_padding`.
  """
  segment, place = at
  after = -segment.shape[1] % size
  widths = ((0, 0), (0, after))
  segment = jnp.pad(segment, widths, mode="edge")
  place = jnp.pad(place, widths, constant_values=place_of_padding)
  batch = segment.shape[0]
  return segment.reshape(batch, -1, size), place.reshape(batch, -1, size)


def cut_queries(q_at: At, size: int) -> Blocks:
  """Blocks of queries; those that fill up see no key."""
  return _cut_places(q_at, size, _FIRST)


def cut_keys(kv_at: KeysAt, size: int) -> Blocks:
  """Blocks of keys; no query sees those that fill up."""
  return _cut_places(kv_at, size, _LAST)


def schedule(q_at: Blocks, kv_at, rows: int) -> Schedule:
  """The tiles to compute.

  From blocks of queries [B n l] and of keys [B m b]. Groups of `rows` rows share a schedule, and
  the arrays of the result start with [B/rows n]. A tile of a group is empty or full if it is so in
  every row.
  """
  empty, full = _kinds(q_at, kv_at)
  _, blocks, key_blocks = empty.shape
  empty = empty.reshape(-1, rows, blocks, key_blocks).all(1)
  full = full.reshape(-1, rows, blocks, key_blocks).all(1)
  rank = jnp.where(empty, 2, jnp.where(full, 0, 1))
  order = jnp.argsort(rank, axis=-1, stable=True)
  return Schedule(
    order.astype(jnp.int32),
    (rank == 0).sum(-1, dtype=jnp.int32),
    (rank < 2).sum(-1, dtype=jnp.int32),
  )


def _kinds(q_at: Blocks, kv_at) -> tuple[Bool[Array, "B n m"], Bool[Array, "B n m"]]:
  """Whether tiles are surely empty, and whether they are full."""
  first_q, last_q = segment_range(q_at[0])
  first_kv, last_kv = segment_range(kv_at[0])
  first_q = first_q[:, :, None]
  last_q = last_q[:, :, None]
  first_kv = first_kv[:, None]
  last_kv = last_kv[:, None]
  latest_q = q_at[1].max(-1)[:, :, None]
  earliest_q = q_at[1].min(-1)[:, :, None]
  latest_kv = kv_at[1].max(-1)[:, None]
  earliest_kv = kv_at[1].min(-1)[:, None]
  empty = (last_q < first_kv) | (last_kv < first_q) | (latest_q < earliest_kv)
  one_segment = (first_q == last_q) & (first_kv == last_kv) & (first_q == first_kv)
  full = one_segment & (earliest_q >= latest_kv)
  return empty, full


def segment_range(segment: Int[Array, "B n b"]) -> tuple[Int[Array, "B n"], Int[Array, "B n"]]:
  """The first and the last segment of blocks.

  Padding, segment 0, ends a row: it counts as the last segment, which keeps ranges narrow.
  """
  segment = jnp.where(segment == 0, _LAST, segment)
  return segment.min(-1), segment.max(-1)


def visit(schedule: Schedule, step: Callable, carry):
  """Computes the live tiles of one block of queries.

  `step(block of keys, carry, masked)` returns the next carry; full tiles come without a mask.
  """

  def full_tile(i, carry):
    return step(schedule.order[i], carry, masked=False)

  def partial_tile(i, carry):
    return step(schedule.order[i], carry, masked=True)

  first = varying_like(jnp.int32(0), schedule.full)
  carry = lax.fori_loop(first, schedule.full, full_tile, carry)
  return lax.fori_loop(schedule.full, schedule.live, partial_tile, carry)


def varying_like(x, tree):
  """Marks x as varying over the mesh axes of `tree`.

  shard_map requires this of a loop's carry. A zero of each array carries its axes; the compiler
  removes the sum.
  """
  for leaf in jax.tree.leaves(tree):
    zero = jnp.zeros_like(leaf)[(0,) * leaf.ndim]
    x = x + zero.astype(x.dtype)
  return x
