# SPDX-License-Identifier: Apache-2.0
"""Selects the tiles of the score matrix that attention must compute.

A tile holds the scores of one block of queries and one block of keys. There are three kinds:

  empty    no query sees any of the keys: the tile is never computed
  full     every query sees every key: no mask is needed
  partial  all other tiles: computed with a mask

The smallest and largest segment and place of a block are enough to tell the kind. Places are traced
arrays, so any layout works: packed rows, zig-zag order, a cache.

  segment 1 1 2 2 2 2, tiles of 2 x 2:   partial  empty    empty
                                         empty    partial  empty
                                         empty    full     partial
"""

from collections.abc import Callable
import dataclasses

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

At = tuple[Int[Array, "B L"], Int[Array, "B L"]]  # (segment, place) of the queries.
KeysAt = tuple[Int[Array, "B S"], Int[Array, "B S"]]  # (segment, place) of the keys.
Blocks = tuple[Int[Array, "B n l"], Int[Array, "B n l"]]  # (segment, place), cut into blocks.

_FIRST = jnp.iinfo(jnp.int32).min  # The place of a padding query, which sees no key.
_LAST = jnp.iinfo(jnp.int32).max  # The place of a padding key, which no query sees.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Schedule:
  """The tiles to compute for each block of queries.

  `order` sorts the blocks of keys by the kind of their tile: order[:full] are full,
  order[full:live] are partial, and order[live:] are empty.
  """

  order: Int[Array, "... blocks"]
  full: Int[Array, "..."]  # Number of full tiles.
  live: Int[Array, "..."]  # Number of full and partial tiles.


def _cut_places(at, size: int, place_of_padding: int) -> Blocks:
  """Cuts segments and places [B L] into blocks, each [B L/size size].

  Padding completes the last block. It has the last segment and `place_of_padding`.
  """
  segment, place = at
  batch, length = segment.shape
  padding = -length % size
  widths = ((0, 0), (0, padding))
  segment = jnp.pad(segment, widths, mode="edge")
  place = jnp.pad(place, widths, constant_values=place_of_padding)
  segment_blocks = segment.reshape(batch, -1, size)
  place_blocks = place.reshape(batch, -1, size)
  return segment_blocks, place_blocks


def cut_queries(q_at: At, size: int) -> Blocks:
  """Cuts queries into blocks; padding queries see no key."""
  return _cut_places(q_at, size, _FIRST)


def cut_keys(kv_at: KeysAt, size: int) -> Blocks:
  """Cuts keys into blocks; no query sees a padding key."""
  return _cut_places(kv_at, size, _LAST)


def schedule(q_at: Blocks, kv_at, rows: int) -> Schedule:
  """The schedule for blocks of queries and of keys.

  q_at, kv_at: (segment, place) of the queries [B n l] and keys [B m b]. Groups of `rows` rows share
  a schedule, so the arrays of the result begin with [B/rows n]. A tile of a group is empty (or
  full) if it is empty (or full) in every row of the group.
  """
  empty, full = _kinds(q_at, kv_at)
  _, blocks, key_blocks = empty.shape
  empty = empty.reshape(-1, rows, blocks, key_blocks).all(1)
  full = full.reshape(-1, rows, blocks, key_blocks).all(1)
  full_or_partial = jnp.where(full, 0, 1)
  rank = jnp.where(empty, 2, full_or_partial)  # 0 full, 1 partial, 2 empty.
  order = jnp.argsort(rank, axis=-1, stable=True)
  return Schedule(
    order=order.astype(jnp.int32),
    full=(rank == 0).sum(-1, dtype=jnp.int32),
    live=(rank < 2).sum(-1, dtype=jnp.int32),
  )


def _kinds(q_at: Blocks, kv_at) -> tuple[Bool[Array, "B n m"], Bool[Array, "B n m"]]:
  """(empty, full): whether tiles are certainly empty, and whether they are full."""
  q_segment, q_place = q_at
  kv_segment, kv_place = kv_at
  first_q, last_q = segment_range(q_segment)
  first_kv, last_kv = segment_range(kv_segment)
  # Blocks of queries run along axis 1 of the result, blocks of keys along axis 2.
  first_q = first_q[:, :, None]
  last_q = last_q[:, :, None]
  latest_q = q_place.max(-1)[:, :, None]
  earliest_q = q_place.min(-1)[:, :, None]
  first_kv = first_kv[:, None, :]
  last_kv = last_kv[:, None, :]
  latest_kv = kv_place.max(-1)[:, None, :]
  earliest_kv = kv_place.min(-1)[:, None, :]
  segments_differ = (last_q < first_kv) | (last_kv < first_q)
  all_keys_are_later = latest_q < earliest_kv
  empty = segments_differ | all_keys_are_later
  one_segment = (first_q == last_q) & (first_kv == last_kv) & (first_q == first_kv)
  no_key_is_later = earliest_q >= latest_kv
  full = one_segment & no_key_is_later
  return empty, full


def segment_range(segment: Int[Array, "B n b"]) -> tuple[Int[Array, "B n"], Int[Array, "B n"]]:
  """The first and the last segment of each block.

  Padding (segment 0) stands at the end of a row. It counts as the last segment, so that a block
  that ends with padding has a narrow range.
  """
  segment = jnp.where(segment == 0, _LAST, segment)
  return segment.min(-1), segment.max(-1)


def visit(schedule: Schedule, step: Callable, carry):
  """Calls `step` for the tiles of one block of queries.

  `step(block of keys, carry, masked)` returns the next carry. Full tiles are visited first, with
  masked=False.
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

  shard_map requires this of the carry of a loop. Adding a zero from each array does it; the
  compiler removes the sum.
  """
  for leaf in jax.tree.leaves(tree):
    zero = jnp.zeros_like(leaf)[(0,) * leaf.ndim]
    x = x + zero.astype(x.dtype)
  return x
