# SPDX-License-Identifier: Apache-2.0
"""The cache of a live session: it grows with the video, and may drop groups.

A slot of the cache is also the position of its token. The slots after the video are scratch for
questions and answers, so that a question needs no copy of the cache and leaves the video untouched.
When groups are dropped, the kept ones move together, and their keys turn to their new positions:
rotary keys depend on positions only through an angle.
"""

from collections.abc import Iterator
import time
from typing import Any, cast

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from filax.infer import decoding, prefix
from filax.infer.compiled import CountedProgram, bucket
from filax.infer.generate import TokenChunk, language_model, read_chunk
from filax.infer.loaded import LoadedModel
from filax.infer.prefix import CHUNK, QUESTIONS, IndexedTokens, padded_stretch
from filax.models.layer_cache import Cache
from filax.models.video_lm import VideoLM
from filax.ops import rope
from filax.ops import visual_dropout as dropout_ops
from filax.ops.splice import splice


class LiveCache:
  """Keys and values of one growing prompt.

  `slots`: places of the buffer. `length` is the number of tokens that stay. The buffer is allocated
  once, at the start. Raises ValueError for an llm whose keys cannot turn to other positions.
  """

  def __init__(self, loaded: LoadedModel, slots: int):
    if not hasattr(loaded.model.llm, "frequencies"):
      raise ValueError(
        f"config.model.llm {type(loaded.model.llm).__name__} has no frequencies(), so a live "
        "session cannot move its keys."
      )
    self._loaded = loaded
    self._model = language_model(loaded.model)
    self.length = 0
    with loaded.on_mesh():
      self._cache = prefix.EMPTY(f"of {slots}", self._model, loaded.params, slots=slots)

  @property
  def slots(self) -> int:
    """The places of the buffer."""
    return self._cache.slots

  def add_tokens(self, content: IndexedTokens, table: Float[Array, "1 M D"], size: int) -> None:
    """Reads tokens that stay, padded to `size`."""
    self._read(padded_stretch(content, 0, size), self.length, table)
    self.length += len(content.tokens)

  def answer_chunks(
    self,
    question: IndexedTokens,
    table: Float[Array, "1 M D"],
    limit: int,
    settings: decoding.Sampling,
    *,
    greedy: bool,
    seed: int,
  ) -> Iterator[TokenChunk]:
    """The answer to a question after the tokens that stay, in chunks.

    No other method may run between two chunks.
    """
    label = f"1 x {self.slots}"
    begin = time.perf_counter()
    with self._loaded.on_mesh():
      logits = self._question_logits(question, table)
      ids, logprobs, state = decoding.START(
        label,
        logits,
        self._cache,
        jax.random.key(seed),
        np.full(1, limit, np.int32),
        settings,
        greedy=greedy,
      )
      self._cache = state.cache
      chunk, active = read_chunk(ids, logprobs, state, begin)
    yield chunk
    while active:
      begin = time.perf_counter()
      with self._loaded.on_mesh():
        ids, logprobs, state = decoding.DECODE(
          label,
          self._model,
          self._loaded.params,
          state,
          settings,
          steps=decoding.STEPS,
          greedy=greedy,
        )
        self._cache = state.cache
        chunk, active = read_chunk(ids, logprobs, state, begin)
      yield chunk

  def attention(self, question: IndexedTokens, table: Float[Array, "1 M D"]) -> np.ndarray:
    """Attention of a question's last token to every slot, float32 [slots].

    It is that of the middle layer. Of a longer question, the last CHUNK tokens are read.
    """
    first = max(0, len(question.tokens) - CHUNK)
    size = bucket(len(question.tokens) - first, QUESTIONS, "filax.infer.prefix.QUESTIONS")
    with self._loaded.on_mesh():
      scores = ATTENDED(
        f"1 x {size} to {self.slots}",
        self._model,
        self._loaded.params,
        self._cache,
        np.full(1, self.length, np.int32),
        *padded_stretch(question, first, size),
        table,
        layer=self._model.llm.depth // 2,
      )
      return np.asarray(scores)

  def keep(self, slots: np.ndarray) -> None:
    """Keeps these slots, ascending, and moves them together."""
    index = np.arange(self.slots, dtype=np.int32)
    index[: len(slots)] = slots
    with self._loaded.on_mesh():
      self._cache = KEEP(f"of {self.slots}", self._model, self._cache, index)
    self.length = len(slots)

  def _question_logits(self, question: IndexedTokens, table) -> Float[Array, "1 V"]:
    """Reads a question into the scratch slots.

    Returns the logits after its last token.
    """
    count = len(question.tokens)
    last = (count - 1) // CHUNK * CHUNK  # Where the last chunk begins.
    for first in range(0, last, CHUNK):
      self._read(padded_stretch(question, first, CHUNK), self.length + first, table)
    size = bucket(count - last, QUESTIONS, "filax.infer.prefix.QUESTIONS")
    logits, self._cache = prefix.ASK(
      f"1 x {size} after {self.slots}",
      self._model,
      self._loaded.params,
      self._cache,
      np.full(1, self.length + last, np.int32),
      *padded_stretch(question, last, size),
      table,
      np.int32(count - last - 1),
      room=1,
    )
    return logits

  def _read(self, stretch: tuple[np.ndarray, np.ndarray, np.ndarray], start: int, table) -> None:
    """Reads a padded stretch into slots `start` and following."""
    with self._loaded.on_mesh():
      self._cache = prefix.READ(
        f"1 x {stretch[0].shape[1]} into {self.slots}",
        self._model,
        self._loaded.params,
        self._cache,
        np.full(1, start, np.int32),
        *stretch,
        table,
      )


def kept_slots(model: VideoLM, cache: Cache, index: Int[Array, "L"]) -> Cache:
  """The cache with slot index[n] in slot n.

  The cache has one row and L slots. Keys turn from position index[n] to n, in float32. The layers
  move one after another, so that one layer is copied at a time, not the cache.
  """
  inverse, _ = model.llm.frequencies()
  moved_by = jnp.arange(index.shape[0]) - index
  cos, sin = rope.angles(moved_by[None], inverse)
  angles = (cos[0, :, 0], sin[0, :, 0])  # [S c], for keys [K S d].

  def moved_keys(layer):
    taken = jnp.take(layer, index, axis=-2)
    turned = rope.rotate(taken.reshape(1, -1, *taken.shape[-2:]), *angles)
    return turned.reshape(layer.shape)

  def moved_values(layer):
    return jnp.take(layer, index, axis=-2)

  k = _by_layer(moved_keys, cache.k)
  v = _by_layer(moved_values, cache.v)
  return Cache(k, v, cache.length)


def _by_layer(move, layers: Any) -> Any:
  """Applies `move` to each layer of keys or values, stacked or apart."""
  if isinstance(layers, tuple):
    return tuple(map(move, layers))

  def move_one(number, stacked):
    layer = lax.dynamic_index_in_dim(stacked, number, 0, keepdims=False)
    return lax.dynamic_update_index_in_dim(stacked, move(layer), number, 0)

  return lax.fori_loop(0, layers.shape[0], move_one, layers)


def attended_slots(
  model: VideoLM, params, cache: Cache, start, tokens, index, count, table, *, layer: int
) -> Float[Array, "L"]:
  """Mean attention over heads of the last token to the slots before.

  It is that in `layer`, of the last of `count` tokens. The tokens [1 n] follow slot `start` [1];
  the cache stays as it is.
  """
  result = model.apply(
    {"params": params},
    cache,
    start,
    tokens,
    index,
    count,
    table,
    layer,
    method=_attention_in_layer,
  )
  return cast(Array, result)[0]  # apply returns a pair only if some collection is mutable.


def _attention_in_layer(model: VideoLM, cache, start, tokens, index, count, table, layer: int):
  """Attention [1 S] of the last token, read up to `layer`."""
  llm = model.llm
  x = splice(llm.embed(tokens), table, index)
  positions = start[:, None] + jnp.arange(tokens.shape[1])
  if layer:
    before = Cache(cache.k[:layer], cache.v[:layer], start)
    x, _ = llm.blocks(x, positions, None, before, count, start=0, stop=layer)
  queries, keys = llm.query_key(x, positions, layer, "-")
  last = (count - 1)[:, None]
  query = jnp.take_along_axis(queries, last[..., None, None], axis=1)
  query_place = jnp.take_along_axis(positions, last, axis=1)
  slots = cache.slots
  cached = cache.k[layer].reshape(1, -1, slots, llm.head_dim)
  cached = jnp.swapaxes(cached, 1, 2)
  place = jnp.arange(slots)[None]
  is_read = (place < start[:, None]).astype(jnp.int32)
  ones = jnp.ones_like(positions)  # Padding lies after the query.
  scores = dropout_ops.attention_scores(
    query,
    jnp.concatenate([cached, keys.astype(cached.dtype)], axis=1),
    (ones[:, :1], query_place),
    (jnp.concatenate([is_read, ones], 1), jnp.concatenate([place, positions], 1)),
  )
  return scores[:, :slots]


KEEP = CountedProgram("shorter cache", kept_slots, static_argnums=0, donate_argnums=1)
ATTENDED = CountedProgram("attention", attended_slots, static_argnums=0, static_argnames="layer")
