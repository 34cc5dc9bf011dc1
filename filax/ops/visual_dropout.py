# SPDX-License-Identifier: Apache-2.0
"""Progressive visual dropout (VideoChat-Flash, arXiv:2501.00574 §3.1): packed rows become shorter.

A row knows its places (`Row`, always in natural order). `uniform` or `select` says which stay,
`shorten` renumbers them, `move` moves hidden states, and `targets` rebuilds the labels. Counts come
from the host (filax.spec.dropout_stages); all lengths are static. Visual tokens are dropped, text
never is, and order is kept. R rows, L places, n places after a drop, S segments a row, Q query
positions.
"""

from collections.abc import Mapping

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree
import numpy as np

from filax.ops.attention.dense import visible
from filax.ops.linspace import linspace

_MASKED = -1e30


@struct.dataclass
class Row:
  """What is known of every place besides its hidden state. Segments are contiguous, from 1."""

  segment_ids: PyTree  # int32 [R L]; 0 = padding.
  positions: PyTree  # int32 [R L]
  visual: PyTree  # bool [R L]
  queries: PyTree  # int32 [R Q]: places whose attention selects; -1 = padding.
  tokens: PyTree = None  # int32 [R L]; training only.
  labels: PyTree = None  # float32 [R L]: the weight with which the token itself is supervised.


def row(batch: Mapping[str, Array]) -> Row:
  """The Row of a packed batch (filax.spec.BATCH)."""
  segments = batch["segment_ids"]
  return Row(
    segments,
    batch["positions"],
    batch["visual_index"] >= 0,
    batch["queries"],
    batch["tokens"],
    _inside(segments) * jnp.pad(batch["loss_mask"], ((0, 0), (1, 0)))[:, :-1],
  )


def targets(places: Row) -> tuple[Int[Array, "R L"], Float[Array, "R L"]]:
  """(targets, loss_mask): the next token of the row as it is now, if of the same segment."""
  following = lambda x: jnp.pad(x, ((0, 0), (0, 1)))[:, 1:]
  inside = following(_inside(places.segment_ids))
  return following(places.tokens), following(places.labels) * inside


def uniform(places: Row, keep: Int[Array, "R S"]) -> Bool[Array, "R L"]:
  """Keeps keep[s - 1] evenly spaced visual tokens of segment s: torch's integer linspace."""
  ordinal, count = _ordinals(places, keep.shape[1])
  wanted = jnp.minimum(_of_segment(keep, places.segment_ids), count)
  rank = _rank(places.visual)
  # The o-th visual token of a segment marks where its o-th pick falls.
  mark = places.visual & (ordinal < wanted)
  at = jnp.where(mark, rank - ordinal + linspace(ordinal, count, wanted), rank.shape[1])
  picked = jax.vmap(lambda i: jnp.zeros(i.shape, bool).at[i].set(True, mode="drop"))(at)
  picked = jnp.take_along_axis(picked, jnp.maximum(rank, 0), axis=1)
  return _with_text(places, picked)


def select(places: Row, scores: Float[Array, "R L"], keep: Int[Array, "R S"]) -> Bool[Array, "R L"]:
  """Keeps the keep[s - 1] visual tokens of segment s with the highest scores; a tie goes to the
  lower place."""
  length = scores.shape[1]
  place = jnp.broadcast_to(jnp.arange(length), scores.shape)
  group = jnp.where(places.visual, places.segment_ids, jnp.iinfo(jnp.int32).max)
  group, _, order = lax.sort((group, -lax.stop_gradient(scores), place), num_keys=3)
  rank = jax.vmap(lambda i, r: jnp.zeros(length, jnp.int32).at[i].set(r))(
    order, place - _start(group)
  )
  return _with_text(places, rank < _of_segment(keep, places.segment_ids))


def scores(
  q: Float[Array, "R Q H d"],
  k: Float[Array, "R L K d"],
  q_at: tuple[Int[Array, "R Q"], Int[Array, "R Q"]],
  kv_at: tuple[Int[Array, "R L"], Int[Array, "R L"]],
  block: int = 4,
) -> Float[Array, "R L"]:
  """How much the queries of a segment attend to each of its places, float32, without gradient.

  The softmax of every query and head runs over all keys that it may see; then the mean over heads
  and over the queries of the segment. `at` = (segment, place) as in filax.ops.attention.dense;
  segment 0 marks a query that is padding. `block` queries at a time: memory O(block · H · L).
  """
  q, k = lax.stop_gradient((q, k))
  rows, queries, heads, d = q.shape
  q = q.reshape(rows, queries, k.shape[2], -1, d)
  parts = (q, *q_at)
  if queries > block:
    parts = jax.tree.map(lambda x: _split(x, block), parts)
    total, _ = lax.scan(
      lambda total, part: (total + _attended(*part, k, kv_at), None),
      jnp.zeros(k.shape[:2], jnp.float32),
      parts,
    )
  else:
    total = _attended(*parts, k, kv_at)
  count = (q_at[0][:, :, None] == kv_at[0][:, None, :]).sum(1)
  return total / (heads * jnp.maximum(count, 1))


def shorten(
  places: Row, kept: Bool[Array, "R L"], length: int, positions: str = "renumber"
) -> tuple[Row, Int[Array, "R n"]]:
  """The Row of `length` places that hold the kept ones in order, and where each was (-1 = padding),
  for `move`.

  `positions`: "renumber" counts every segment from 0 again, "keep" leaves them as they are. The
  planner guarantees that the kept places fit. A query whose place is dropped moves to the last kept
  place before it.
  """
  if positions not in POSITIONS:
    raise ValueError(
      f"config.model.llm.dropout_positions={positions!r} is unknown. Set it to one of "
      f"{', '.join(POSITIONS)}."
    )
  index = compact(kept, length)
  take = lambda x: move(x, index)
  segments = take(places.segment_ids)
  place = jnp.broadcast_to(jnp.arange(length), segments.shape)
  moved = jnp.take_along_axis(_rank(kept), jnp.maximum(places.queries, 0), axis=1)
  counted = jnp.where(index < 0, 0, place - _start(segments))
  return Row(
    segment_ids=segments,
    positions=take(places.positions) if positions == "keep" else counted,
    visual=take(places.visual),
    queries=jnp.where(places.queries < 0, -1, moved),
    tokens=jax.tree.map(take, places.tokens),
    labels=jax.tree.map(take, places.labels),
  ), index


POSITIONS = ("renumber", "keep")


def compact(kept: Bool[Array, "R L"], length: int) -> Int[Array, "R n"]:
  """Indices of the kept places, ascending, in rows of `length`; -1 behind the last of them."""
  place = jnp.broadcast_to(jnp.arange(kept.shape[1]), kept.shape)
  at = jnp.where(kept, _rank(kept), length)
  put = lambda at, place: jnp.full(length, -1, jnp.int32).at[at].set(place, mode="drop")
  return jax.vmap(put)(at, place)


def move(
  x: Array,
  index: Int[Array, "R n"],
  before: np.ndarray | None = None,
  after: np.ndarray | None = None,
) -> Array:
  """x [R L ...] -> [R n ...]: the places that `index` names; zeros where it is negative.

  `index` counts in natural order. Where x is laid out otherwise (parallel.zigzag.order), `before`
  is the natural index of each of its places, and `after` that of each place of the result.
  """
  if after is not None:
    index = index[:, after]
  at = jnp.maximum(index, 0)
  if before is not None:
    at = jnp.asarray(np.argsort(before))[at]
  wide = lambda a: a.reshape(*a.shape, *(1,) * (x.ndim - 2))
  found = jnp.take_along_axis(x, wide(at), axis=1)
  return jnp.where(wide(index >= 0), found, jnp.zeros_like(found))


def at_queries(places: Row) -> tuple[Int[Array, "R Q"], Int[Array, "R Q"]]:
  """(segment, place) of the queries, for `scores`; segment 0 where there is none."""
  return move(places.segment_ids, places.queries), places.queries


def at_places(places: Row) -> tuple[Int[Array, "R L"], Int[Array, "R L"]]:
  """(segment, place) of every place."""
  segments = places.segment_ids
  return segments, jnp.broadcast_to(jnp.arange(segments.shape[1]), segments.shape)


def _attended(q, segment, place, k, kv_at) -> Float[Array, "R L"]:
  """The attention of queries [R q K G d] to every key, summed over queries and heads."""
  seen = visible((segment, place), kv_at) & (segment > 0)[:, :, None]
  seen = seen[:, None, None]
  logits = (
    jnp.einsum(
      "RqKGd,RLKd->RKGqL", q, k, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )
    * q.shape[-1] ** -0.5
  )
  logits = jnp.where(seen, logits, _MASKED)
  weight = jnp.exp(logits - logits.max(-1, keepdims=True)) * seen
  share = jnp.maximum(weight.sum(-1, keepdims=True), 1e-30)
  return (weight / share).sum((1, 2, 3))


def _split(x, block: int):
  """[R Q ...] -> [parts R block ...]; what fills up is zeros, so segment 0."""
  x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % block), *((0, 0),) * (x.ndim - 2)))
  return jnp.moveaxis(x.reshape(x.shape[0], -1, block, *x.shape[2:]), 1, 0)


def _ordinals(places: Row, segments: int):
  """[R L] index of a visual token among those of its segment, and [R L] how many it has."""
  rank, length = _rank(places.visual), places.visual.shape[1]

  def one(segment, visual, rank):
    first = jnp.full(segments + 1, length).at[segment].min(jnp.where(visual, rank, length))
    count = jnp.zeros(segments + 1, jnp.int32).at[segment].add(visual)
    return rank - first[segment], count[segment]

  return jax.vmap(one)(places.segment_ids, places.visual, rank)


def _of_segment(values: Int[Array, "R S"], segment_ids: Int[Array, "R L"]):
  """values[s - 1] at every place of segment s, 0 on padding."""
  return jnp.take_along_axis(jnp.pad(values, ((0, 0), (1, 0))), segment_ids, axis=1)


def _with_text(places: Row, picked):
  return jnp.where(places.visual, picked, True) & (places.segment_ids > 0)


def _rank(mask) -> Int[Array, "R L"]:
  """How many True lie before a place; of a False place, one less (its last True neighbour's)."""
  return jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1


def _inside(groups):
  """True where the place before has the same value: not the first of its group."""
  return (groups == jnp.pad(groups, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]) & (groups > 0)


def _start(groups):
  """The first place of the run of equal values that a place is in."""
  place = jnp.broadcast_to(jnp.arange(groups.shape[1]), groups.shape)
  return lax.cummax(jnp.where(_inside(groups), 0, place), axis=1)
