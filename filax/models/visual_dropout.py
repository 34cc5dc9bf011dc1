# SPDX-License-Identifier: Apache-2.0
"""Runs a decoder with visual dropout.

Visual tokens are dropped after some layers, the stages. Between two stages lies a range of layers.
With stages after layers 4 and 18 of 28, a row passes through

  L places -> layers 0..4 -> room[0] places -> layers 4..18 -> room[1] places -> layers 18..28

The hidden states after a range determine which places are kept (filax.ops.visual_dropout). The
functions take any decoder. They use only its members `blocks`, `query_key`, `normalise`,
`empty_cache`, `ranges` and `stages` (filax.models.roles.LLM).
"""

from collections.abc import Sequence
import math
from typing import Any

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from filax.models.roles import LLM
from filax.ops import chunks
from filax.ops import visual_dropout as ops
from filax.parallel import zigzag
from filax.parallel.rules import constrain


@struct.dataclass
class RangeCaches:
  """The caches of all ranges of layers. Later ranges hold fewer places."""

  ranges: tuple[Any, ...]
  length: Any  # int32 [B]: the number of tokens, including those that were dropped.

  def repeated(self, times: int) -> "RangeCaches":
    """As Cache.repeated."""
    ranges = tuple(cache.repeated(times) for cache in self.ranges)
    return RangeCaches(ranges, jnp.repeat(self.length, times))

  def with_row(self, row: Int[Array, ""], other: "RangeCaches") -> "RangeCaches":
    """As Cache.with_row."""
    ranges = []
    for cache, new in zip(self.ranges, other.ranges, strict=True):
      ranges.append(cache.with_row(row, new))
    return RangeCaches(tuple(ranges), self.length.at[row].set(other.length[0]))

  def with_rows(self, rows: int) -> "RangeCaches":
    """As Cache.with_rows."""
    ranges = tuple(cache.with_rows(rows) for cache in self.ranges)
    missing = rows - self.length.shape[0]
    return RangeCaches(ranges, jnp.pad(self.length, (0, missing)))

  def at_rows(self, rows: Int[Array, "count"]) -> "RangeCaches":
    """As Cache.at_rows."""
    ranges = tuple(cache.at_rows(rows) for cache in self.ranges)
    return RangeCaches(ranges, self.length[rows])


def forward(
  llm: LLM,
  x: Float[Array, "R L D"],
  row: ops.Row,
  keep: Int[Array, "R stages S"],
  room: Sequence[int],
) -> tuple[Float[Array, "R n D"], ops.Row]:
  """Runs all layers over packed rows, and drops visual tokens between ranges.

  keep: how many visual tokens each segment keeps after each stage. room: the number of places of a
  row after each stage. Returns the normalised hidden states of the remaining places, and their Row.
  Over the mesh axis seq, x and the returned states are in zig-zag order; both Rows are in natural
  order.
  """
  last = len(llm.ranges) - 1
  for stage, (start, stop) in enumerate(llm.ranges):
    order = zigzag.order_in_use(x.shape[1])
    segments, place = ops.row_places(row)
    segments = _in_order(segments, order)
    place = _in_order(place, order)
    positions = _in_order(row.positions, order)
    x, _ = llm.blocks(
      x, positions, segments, place=place, start=start, stop=stop, samples=keep.shape[-1]
    )
    if stage < last:
      order_after = zigzag.order_in_use(room[stage])
      x, row = drop(llm, x, row, keep[:, stage], stage, room[stage], order, order_after)
  return llm.normalise(x), row


def _in_order(x: Array, order: np.ndarray | None) -> Array:
  """Reorders [R L] from natural order to `order`, sharded over the mesh."""
  if order is None:
    return x
  return constrain(x[:, order], "batch seq")


def prefill(
  llm: LLM,
  x: Float[Array, "B L D"],
  lengths: Int[Array, "B"],
  visual: Bool[Array, "B L"],
  keep: Int[Array, "B stages 1"],
  room: Sequence[int],
  spare: int,
  chunk: int,
) -> tuple[Float[Array, "B D"], Any]:
  """Computes right-padded embedded prompts, and fills a cache.

  A whole prompt passes through a range of layers, `chunk` places at a time. Then its last token
  decides which visual tokens are dropped, and room[stage] places remain for the next range. Returns
  the normalised hidden states of the last tokens, and a cache with `spare` free slots. The cache is
  a `RangeCaches` if the decoder has stages.
  """
  batch, length, _ = x.shape
  place = jnp.broadcast_to(jnp.arange(length), (batch, length))
  real = (place < lengths[:, None]).astype(jnp.int32)
  row = ops.Row(
    segment_ids=real,
    positions=place,
    visual=visual & (real > 0),
    queries=lengths[:, None] - 1,
  )
  caches = []
  last = len(llm.ranges) - 1
  for stage, (start, stop) in enumerate(llm.ranges):
    cache = llm.empty_cache(batch, x.shape[1] + spare, stop - start)
    x, cache = _blocks_in_chunks(llm, x, row.positions, cache, start, stop, chunk)
    count = row.segment_ids.sum(1)
    caches.append(cache.replace(length=count))
    if stage < last:
      x, row = drop(llm, x, row, keep[:, stage], stage, room[stage])
  last_place = (count - 1)[:, None, None]
  last_token = jnp.take_along_axis(x, last_place, axis=1)
  hidden = llm.normalise(last_token[:, 0])
  if not llm.stages:
    return hidden, caches[0]
  return hidden, RangeCaches(tuple(caches), lengths)


def empty_caches(llm: LLM, batch: int, slots: Sequence[int]) -> Any:
  """Empty caches of slots[n] places for the n-th range of layers."""
  caches = []
  for places, (start, stop) in zip(slots, llm.ranges, strict=True):
    caches.append(llm.empty_cache(batch, places, stop - start))
  if not llm.stages:
    return caches[0]
  return RangeCaches(tuple(caches), caches[0].length)


def _blocks_in_chunks(llm, x, positions, cache, start: int, stop: int, chunk: int):
  """Runs `blocks` with an empty cache, `chunk` places at a time."""
  length = x.shape[1]
  if length <= chunk:
    return llm.blocks(x, positions, None, cache, start=start, stop=stop, samples=1)
  size = math.gcd(length, chunk)

  def add_chunk(llm, cache, part):
    x, positions = part
    x, cache = llm.blocks(x, positions, None, cache, start=start, stop=stop)
    return cache, x

  scan = nn.scan(add_chunk, variable_broadcast="params", split_rngs={"params": False})
  parts = (chunks.cut(x, size), chunks.cut(positions, size))
  cache, outputs = scan(llm, cache, parts)
  return chunks.join(outputs, length), cache


def extend(
  llm: LLM,
  x: Float[Array, "B L D"],
  positions,
  cache: RangeCaches,
  lengths,
):
  """Computes more tokens after a prompt whose visual tokens were dropped."""
  caches = []
  for (start, stop), range_cache in zip(llm.ranges, cache.ranges, strict=True):
    if llm.dropout_positions == "renumber":
      range_positions = range_cache.length[:, None] + jnp.arange(x.shape[1])
    else:
      range_positions = positions
    x, range_cache = llm.blocks(
      x, range_positions, None, range_cache, lengths, start=start, stop=stop
    )
    caches.append(range_cache)
  added = x.shape[1] if lengths is None else lengths
  return llm.normalise(x), RangeCaches(tuple(caches), cache.length + added)


def drop(
  llm: LLM,
  x: Float[Array, "R L D"],
  row: ops.Row,
  keep: Int[Array, "R S"],
  number: int,
  room: int,
  order: np.ndarray | None = None,
  order_after: np.ndarray | None = None,
) -> tuple[Float[Array, "R n D"], ops.Row]:
  """Drops the tokens of stage `number`; n = `room`.

  `order` and `order_after` are the orders of x before and after, None for natural order.
  """
  stage = llm.stages[number]
  if stage.kind == "uniform":
    kept = ops.keep_uniform(row, keep)
  else:
    scores = attention(llm, x, row, stage.layer, order)
    kept = ops.keep_attended(row, scores, keep)
  row, index = ops.shorten(row, kept, room, llm.dropout_positions)
  x = ops.move(x, index, order, order_after)
  return constrain(x, "batch seq -"), row


def attention(
  llm: LLM,
  x: Float[Array, "R L D"],
  row: ops.Row,
  layer: int,
  order: np.ndarray | None = None,
) -> Float[Array, "R L"]:
  """Attention of a row's queries to its places in `layer`.

  x is in `order`, the result in natural order. No gradient.
  """
  x = jax.lax.stop_gradient(x)
  query_positions = ops.move(row.positions, row.queries)
  query_states = ops.move(x, row.queries, order)
  q, _ = llm.query_key(query_states, query_positions, layer, "-")
  segments, place = ops.row_places(row)
  positions = row.positions
  if order is not None:
    segments = segments[:, order]
    place = place[:, order]
    positions = positions[:, order]
  _, k = llm.query_key(x, positions, layer, "seq")
  scores = ops.attention_scores(q, k, ops.query_places(row), (segments, place))
  scores = constrain(scores, "batch -")
  if order is None:
    return scores
  natural = jnp.argsort(jnp.asarray(order))
  return scores[:, natural]


def attention_by_layer(
  llm: LLM, x: Float[Array, "B L D"], queries: Int[Array, "B Q"] | None = None
) -> Float[Array, "layers B L"]:
  """`attention` of some places in every layer; nothing is dropped.

  `queries`: the places, -1 for padding; default: the last place.
  """
  batch, length, _ = x.shape
  place = jnp.broadcast_to(jnp.arange(length), (batch, length))
  row = ops.Row(
    segment_ids=jnp.ones_like(place),
    positions=place,
    visual=jnp.zeros((batch, length), bool),
    queries=place[:, -1:] if queries is None else queries,
  )
  layers = []
  for layer in range(llm.depth):
    layers.append(attention(llm, x, row, layer))
    x, _ = llm.blocks(x, place, start=layer, stop=layer + 1)
  return jnp.stack(layers)
