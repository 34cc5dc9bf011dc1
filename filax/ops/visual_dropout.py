# SPDX-License-Identifier: Apache-2.0
"""Progressive visual dropout in packed rows (VideoChat-Flash, arXiv:2501.00574 §3.1).

A `Row` describes the places of packed rows, always in natural order. A drop takes four steps:

1. `keep_uniform` or `keep_attended` selects the places to keep.
2. `shorten` computes the Row of the kept places.
3. `move` moves the hidden states to their new places.
4. In training, `next_tokens` rebuilds targets and loss mask.

Only visual tokens are dropped, never text, and the order of tokens does not change. The host
decides how many tokens to keep (filax.spec.dropout_stages), so that all lengths are static.

  segment_ids  1 1 1 1 1 2 2 2 0          of segment 1 keep 1 of 3 visual tokens, of segment 2 all
  visual       . v v v . . v . .
  kept         x x . . x x x x .    ->    index of `shorten` to 7 places = 0 1 4 5 6 7 -1

R rows, L places, n places after a drop, S segments a row, Q query positions.
"""

from collections.abc import Mapping

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree
import numpy as np

from filax.ops import chunks
from filax.ops.attention.dense import visible
from filax.ops.linspace import linspace

POSITIONS = ("renumber", "keep")
_MASKED = -1e30


@struct.dataclass
class Row:
  """The places of packed rows, without their hidden states.

  Segments are contiguous and count from 1.
  """

  segment_ids: PyTree  # int32 [R L]; 0 = padding.
  positions: PyTree  # int32 [R L]
  visual: PyTree  # bool [R L]
  queries: PyTree  # int32 [R Q]: places of the text tokens whose attention decides; -1 = padding.
  tokens: PyTree = None  # int32 [R L]; in training only.
  labels: PyTree = None  # float32 [R L]: weight of the token itself in the loss; in training only.


def row_of_batch(batch: Mapping[str, Array]) -> Row:
  """The Row of a packed batch (filax.spec.BATCH)."""
  segments = batch["segment_ids"]
  visual = batch["visual_index"] >= 0
  continues = _continues(segments)
  supervised = _preceding(batch["loss_mask"])
  return Row(
    segment_ids=segments,
    positions=batch["positions"],
    visual=visual,
    queries=batch["queries"],
    tokens=batch["tokens"],
    labels=continues * supervised,
  )


def next_tokens(row: Row) -> tuple[Int[Array, "R L"], Float[Array, "R L"]]:
  """Targets and loss mask: the next token within the segment."""
  same_segment = _following(_continues(row.segment_ids))
  targets = _following(row.tokens)
  return targets, _following(row.labels) * same_segment


def _following(x: Array) -> Array:
  """The value of the next place, zero at the end."""
  padded = jnp.pad(x, ((0, 0), (0, 1)))
  return padded[:, 1:]


def _preceding(x: Array, first: int = 0) -> Array:
  """The value of the previous place, `first` at the start."""
  padded = jnp.pad(x, ((0, 0), (1, 0)), constant_values=first)
  return padded[:, :-1]


def keep_uniform(row: Row, keep: Int[Array, "R S"]) -> Bool[Array, "R L"]:
  """Keeps evenly spaced visual tokens: keep[s - 1] of segment s.

  They are spaced as by torch's integer linspace. Text is always kept.
  """
  ordinal, count = _ordinals(row, keep.shape[1])
  wanted = jnp.minimum(_of_segment(keep, row.segment_ids), count)
  rank = _rank(row.visual)  # Among the visual tokens of the row.
  # The o-th visual token of a segment computes which token of the segment is the o-th pick.
  has_pick = row.visual & (ordinal < wanted)
  first_rank = rank - ordinal
  picked_rank = first_rank + linspace(ordinal, count, wanted)
  nowhere = rank.shape[1]
  picked_rank = jnp.where(has_pick, picked_rank, nowhere)
  is_picked = jax.vmap(_true_at)(picked_rank)  # Indexed by rank.
  picked = jnp.take_along_axis(is_picked, jnp.maximum(rank, 0), axis=1)  # Indexed by place.
  return _with_text(row, picked)


def _true_at(index: Int[Array, "L"]) -> Bool[Array, "L"]:
  all_false = jnp.zeros(index.shape, bool)
  return all_false.at[index].set(True, mode="drop")


def keep_attended(
  row: Row,
  scores: Float[Array, "R L"],
  keep: Int[Array, "R S"],
) -> Bool[Array, "R L"]:
  """Keeps the visual tokens with the highest scores.

  Segment s keeps keep[s - 1] of them. A tie goes to the lower place. Text is always kept.
  """
  length = scores.shape[1]
  place = jnp.broadcast_to(jnp.arange(length), scores.shape)
  # Sorted by segment, then by falling score, then by place; text comes last.
  group = jnp.where(row.visual, row.segment_ids, jnp.iinfo(jnp.int32).max)
  falling = -lax.stop_gradient(scores)
  group, _, order = lax.sort((group, falling, place), num_keys=3)
  rank_sorted = place - _start(group)
  rank = jax.vmap(_scatter)(order, rank_sorted)
  return _with_text(row, rank < _of_segment(keep, row.segment_ids))


def _scatter(
  index: Int[Array, "L"],
  values: Int[Array, "L"],
) -> Int[Array, "L"]:
  """values[i] at index[i]."""
  return jnp.zeros(index.shape, jnp.int32).at[index].set(values)


def attention_scores(
  q: Float[Array, "R Q H d"],
  k: Float[Array, "R L K d"],
  q_at: tuple[Int[Array, "R Q"], Int[Array, "R Q"]],
  kv_at: tuple[Int[Array, "R L"], Int[Array, "R L"]],
  block: int = 4,
) -> Float[Array, "R L"]:
  """The mean attention of a segment's queries to each place.

  Returns float32 without gradient. For every query and head, the softmax is taken over all keys
  that the query sees. The result is the mean over the heads and over the queries of the segment.
  `at` = (segment, place) as in filax.ops.attention.dense; segment 0 marks a padding query. `block`
  queries are computed at a time, which takes O(block · H · L) memory.
  """
  q, k = lax.stop_gradient((q, k))
  rows, queries, heads, d = q.shape
  q = q.reshape(rows, queries, k.shape[2], -1, d)
  q_segment, q_place = q_at
  if queries > block:
    # Chunks are padded with zeros. Segment 0 marks the padding as no query.
    parts = [chunks.cut(chunks.pad(x, block), block) for x in (q, q_segment, q_place)]

    def add_block(total, part):
      q_part, segment_part, place_part = part
      sum_of_part = _attention_sum(q_part, segment_part, place_part, k, kv_at)
      return total + sum_of_part, None

    zeros = jnp.zeros(k.shape[:2], jnp.float32)
    total, _ = lax.scan(add_block, zeros, parts)
  else:
    total = _attention_sum(q, q_segment, q_place, k, kv_at)
  kv_segment, _ = kv_at
  same_segment = q_segment[:, :, None] == kv_segment[:, None, :]
  query_count = same_segment.sum(1)  # [R L]
  return total / (heads * jnp.maximum(query_count, 1))


def shorten(
  row: Row,
  kept: Bool[Array, "R L"],
  length: int,
  positions: str = "renumber",
) -> tuple[Row, Int[Array, "R n"]]:
  """The Row of the kept places, and the index for `move`.

  The new Row has n = `length` places, and the kept places stay in order; the planner guarantees
  that they fit. The index holds the former place of each new place, -1 for padding. A query whose
  place is dropped moves to the last kept place before it.

  positions: with "renumber" the positions of every segment count from 0 again; with "keep" they do
  not change.
  """
  if positions not in POSITIONS:
    raise ValueError(
      f"config.model.llm.dropout_positions={positions!r} is unknown. Set it to one of "
      f"{', '.join(POSITIONS)}."
    )
  index = compact(kept, length)

  def kept_places(x):
    return move(x, index)

  segments = kept_places(row.segment_ids)
  place = jnp.broadcast_to(jnp.arange(length), segments.shape)
  new_places = _rank(kept)
  moved_queries = jnp.take_along_axis(new_places, jnp.maximum(row.queries, 0), axis=1)
  renumbered = jnp.where(index < 0, 0, place - _start(segments))
  shorter = Row(
    segment_ids=segments,
    positions=kept_places(row.positions) if positions == "keep" else renumbered,
    visual=kept_places(row.visual),
    queries=jnp.where(row.queries < 0, -1, moved_queries),
    tokens=jax.tree.map(kept_places, row.tokens),  # None stays None.
    labels=jax.tree.map(kept_places, row.labels),
  )
  return shorter, index


def compact(kept: Bool[Array, "R L"], length: int) -> Int[Array, "R n"]:
  """Ascending indices of the kept places in rows of `length`.

  The rest of a row is -1.

  kept = [1 0 1 1], length = 4  ->  [0 2 3 -1]
  """
  place = jnp.broadcast_to(jnp.arange(kept.shape[1]), kept.shape)
  new_place = jnp.where(kept, _rank(kept), length)

  def compact_row(new_place, place):
    padding = jnp.full(length, -1, jnp.int32)
    return padding.at[new_place].set(place, mode="drop")

  return jax.vmap(compact_row)(new_place, place)


def move(
  x: Array,
  index: Int[Array, "R n"],
  order: np.ndarray | None = None,
  order_after: np.ndarray | None = None,
) -> Array:
  """Gathers the places of x at `index`.

  [R L ...] -> [R n ...]; zeros where `index` is negative. `index` counts in natural order. If x is
  in another order (parallel.zigzag.order), `order` holds the natural index of each place of x, and
  `order_after` the natural index of each place of the result.

    x = [a b c d], index = [3 0 -1]  ->  [d a 0]
  """
  if order_after is not None:
    index = index[:, order_after]
  source = jnp.maximum(index, 0)
  if order is not None:
    source = jnp.asarray(np.argsort(order))[source]
  moved = jnp.take_along_axis(x, _with_axes(source, x.ndim), axis=1)
  is_real = _with_axes(index >= 0, x.ndim)
  return jnp.where(is_real, moved, jnp.zeros_like(moved))


def _with_axes(x: Array, ndim: int) -> Array:
  """x with trailing axes of size 1 up to `ndim` axes."""
  return x.reshape(*x.shape, *(1,) * (ndim - x.ndim))


def query_places(row: Row) -> tuple[Int[Array, "R Q"], Int[Array, "R Q"]]:
  """(segment, place) of the queries, for `attention_scores`; padding has segment 0."""
  return move(row.segment_ids, row.queries), row.queries


def row_places(row: Row) -> tuple[Int[Array, "R L"], Int[Array, "R L"]]:
  """(segment, place) of every place."""
  segments = row.segment_ids
  return segments, jnp.broadcast_to(jnp.arange(segments.shape[1]), segments.shape)


def _attention_sum(q, segment, place, k, kv_at) -> Float[Array, "R L"]:
  """The attention that every key receives, summed over queries and heads.

  q is [R q K G d]: G heads share a kv head.
  """
  seen = visible((segment, place), kv_at)
  is_real_query = (segment > 0)[:, :, None]
  seen = seen & is_real_query
  seen = seen[:, None, None]  # [R 1 1 q L]
  logits = jnp.einsum(
    "RqKGd,RLKd->RKGqL", q, k, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32
  )
  logits = logits * q.shape[-1] ** -0.5
  logits = jnp.where(seen, logits, _MASKED)
  largest = logits.max(-1, keepdims=True)
  weight = jnp.exp(logits - largest) * seen
  total = weight.sum(-1, keepdims=True)
  attention = weight / jnp.maximum(total, 1e-30)
  return attention.sum((1, 2, 3))


def _ordinals(row: Row, segments: int):
  """Index of each visual token in its segment, and their number.

  Both are [R L].
  """
  rank = _rank(row.visual)
  length = row.visual.shape[1]

  def ordinals_of_row(segment, visual, rank):
    first = jnp.full(segments + 1, length)
    first = first.at[segment].min(jnp.where(visual, rank, length))
    count = jnp.zeros(segments + 1, jnp.int32)
    count = count.at[segment].add(visual)
    return rank - first[segment], count[segment]

  return jax.vmap(ordinals_of_row)(row.segment_ids, row.visual, rank)


def _of_segment(
  values: Int[Array, "R S"],
  segment_ids: Int[Array, "R L"],
):
  """values[s - 1] at every place of segment s, 0 at padding."""
  with_padding = jnp.pad(values, ((0, 0), (1, 0)))
  return jnp.take_along_axis(with_padding, segment_ids, axis=1)


def _with_text(row: Row, picked):
  return jnp.where(row.visual, picked, True) & (row.segment_ids > 0)


def _rank(mask) -> Int[Array, "R L"]:
  """Index of each True place among those of its row.

  A False place has the index of the last True place before it.
  """
  return jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1


def _continues(groups):
  """True where the previous place belongs to the same group."""
  before = _preceding(groups, first=-1)
  return (groups == before) & (groups > 0)


def _start(groups):
  """The first place of each place's run of equal values."""
  place = jnp.broadcast_to(jnp.arange(groups.shape[1]), groups.shape)
  return lax.cummax(jnp.where(_continues(groups), 0, place), axis=1)
