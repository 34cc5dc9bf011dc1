# SPDX-License-Identifier: Apache-2.0
"""Prompts that begin alike share keys and values.

In a causal llm, keys and values of a token depend only on the tokens before it. Two classes have
the same methods. `SharedPrefix` computes only what a context does not share with the context before
it (or with a base that is kept). `PlainPrefill` computes every prompt in full, which visual dropout
needs.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from filax.infer.compiled import CountedProgram, bucket
from filax.infer.generate import PREFILL, language_model, pad_prompts
from filax.infer.loaded import LoadedModel
from filax.models.layer_cache import Cache
from filax.models.video_lm import VideoLM
from filax.spec import TEXT

CHUNK = 1024  # Positions read at a time.
CHUNKS = (128, CHUNK)  # The last chunk of a context is padded to one of these.
QUESTIONS = (64, 128, 256, 512, CHUNK)  # Buckets of a question with its answer.
ANSWERS = (8, 64, CHUNK)  # Buckets of an answer.


@dataclasses.dataclass(frozen=True, eq=False)
class IndexedTokens:
  """Token ids and their rows of the visual table.

  Both int32 [L]; the row of a text token is filax.spec.TEXT.
  """

  tokens: np.ndarray
  index: np.ndarray

  def upto(self, length: int) -> "IndexedTokens":
    """The first `length` tokens."""
    return IndexedTokens(self.tokens[:length], self.index[:length])

  def common_length(self, other: "IndexedTokens") -> int:
    """The number of tokens with which both begin."""
    shorter = min(len(self.tokens), len(other.tokens))
    differs = self.tokens[:shorter] != other.tokens[:shorter]
    differs |= self.index[:shorter] != other.index[:shorter]
    return int(np.argmax(differs)) if differs.any() else shorter


def joined_tokens(parts: Sequence[IndexedTokens]) -> IndexedTokens:
  """Several stretches of a prompt as one."""
  tokens = np.concatenate([part.tokens for part in parts])
  index = np.concatenate([part.index for part in parts])
  return IndexedTokens(tokens.astype(np.int32), index.astype(np.int32))


@dataclasses.dataclass(eq=False)
class _Held:
  """A cache on the device, and the tokens that it holds."""

  cache: Cache
  content: IndexedTokens

  @property
  def slots(self) -> int:
    return self.cache.slots


class _Plan(NamedTuple):
  """Where the beginning of a context comes from."""

  start: int  # Tokens that need not be read.
  source: _Held | None
  copy: bool


class SharedPrefix:
  """Reads contexts one after another into one cache.

  `tokens_read` counts the tokens that passed the layers.
  """

  def __init__(self, loaded: LoadedModel, table: Float[Array, "M D"]):
    self._loaded = loaded
    self._model = language_model(loaded.model)
    self._table = table[None]
    self._base: _Held | None = None
    self._working: _Held | None = None
    self.tokens_read = 0

  def keep_base(self, content: IndexedTokens) -> None:
    """Reads tokens with which many contexts begin."""
    self.read_context(content)
    self._base = self._working
    self._working = None

  def read_context(self, context: IndexedTokens) -> None:
    """Makes `context` the beginning of the following questions."""
    wanted = self._slots(len(context.tokens))
    plan = self._plan(context, wanted)
    if plan.source is not self._working:
      self._working = None  # Its memory is free before another cache is made.
    with self._loaded.on_mesh():
      if plan.source is None:
        cache = EMPTY(f"of {wanted}", self._model, self._loaded.params, slots=wanted)
      elif plan.copy:
        cache = RESIZE(f"{plan.source.slots} -> {wanted}", plan.source.cache, slots=wanted)
      else:
        cache = plan.source.cache
      cache = self._read(cache, context, plan.start)
    self._working = _Held(cache, context)

  def answer_logits(self, question: IndexedTokens, answer: Sequence[int]) -> Float[Array, "A V"]:
    """The logits in the places of `answer`, given the answer's ids before.

    The question follows the context. Raises ValueError for a very long question.
    """
    held = self._working
    if held is None:
      raise RuntimeError("read_context comes before the first question.")
    row = _with_answer(question, answer)
    size = bucket(len(row.tokens), QUESTIONS, "filax.infer.prefix.QUESTIONS")
    room = bucket(len(answer), ANSWERS, "filax.infer.prefix.ANSWERS")
    length = len(held.content.tokens)
    with self._loaded.on_mesh():
      logits, cache = ASK(
        f"1 x {size} after {held.slots}",
        self._model,
        self._loaded.params,
        held.cache,
        np.full(1, length, np.int32),
        *padded_stretch(row, 0, size),
        self._table,
        np.int32(len(question.tokens) - 1),
        room=room,
      )
    held.cache = cache
    self.tokens_read += len(row.tokens)
    return logits[: len(answer)]

  def _slots(self, length: int) -> int:
    """Places of a cache: a bucket, and room for a padded chunk."""
    return bucket(length, self._loaded.processor.lengths, "config.infer.lengths") + CHUNK

  def _plan(self, context: IndexedTokens, wanted: int) -> _Plan:
    """The cheapest beginning: the working cache, the base, or nothing."""
    length = len(context.tokens)
    best = _Plan(0, None, False)
    cheapest = length * wanted
    if self._base is not None:
      start = self._base.content.common_length(context)
      work = (length - start) * wanted
      if work < cheapest:
        best = _Plan(start, self._base, True)
        cheapest = work
    working = self._working
    if working is not None and working.slots >= wanted:
      start = working.content.common_length(context)
      if (length - start) * working.slots <= cheapest:
        best = _Plan(start, working, False)
    return best

  def _read(self, cache: Cache, context: IndexedTokens, start: int) -> Cache:
    """Reads context[start:] into the cache."""
    slots = cache.slots
    stop = len(context.tokens)
    for first in range(start, stop, CHUNK):
      size = bucket(min(stop - first, CHUNK), CHUNKS, "filax.infer.prefix.CHUNKS")
      tokens, index, count = padded_stretch(context, first, size)
      cache = READ(
        f"1 x {size} into {slots}",
        self._model,
        self._loaded.params,
        cache,
        np.full(1, first, np.int32),
        tokens,
        index,
        count,
        self._table,
      )
      self.tokens_read += int(count[0])
    return cache


class PlainPrefill:
  """Reads every prompt in full, with the model's visual dropout."""

  def __init__(self, loaded: LoadedModel, table: Float[Array, "M D"]):
    self._loaded = loaded
    self._model = language_model(loaded.model)
    self._table = table[None]
    self._context: IndexedTokens | None = None
    self.tokens_read = 0

  def keep_base(self, content: IndexedTokens) -> None:
    """Nothing is shared."""

  def read_context(self, context: IndexedTokens) -> None:
    """Makes `context` the beginning of the following questions."""
    self._context = context

  def answer_logits(self, question: IndexedTokens, answer: Sequence[int]) -> Float[Array, "A V"]:
    """As SharedPrefix.answer_logits."""
    if self._context is None:
      raise RuntimeError("read_context comes before the first question.")
    prompt = joined_tokens([self._context, question])
    lengths = self._loaded.processor.lengths
    padded = pad_prompts(self._loaded.model, [prompt.tokens.tolist()], [prompt.index], lengths)
    room = bucket(len(answer), ANSWERS, "filax.infer.prefix.ANSWERS")
    with self._loaded.on_mesh():
      logits, cache = PREFILL(
        padded.label,
        self._model,
        self._loaded.params,
        padded.tokens,
        padded.counts,
        self._table,
        padded.visual_index,
        padded.keep,
        room=padded.room,
        spare=room,
      )
      if len(answer) > 1:
        rest = self._rest_logits(cache, answer, room, padded.label)
        logits = jnp.concatenate([logits, rest])
    self.tokens_read += len(prompt.tokens) + len(answer) - 1
    return logits

  def _rest_logits(
    self, cache, answer: Sequence[int], room: int, label: str
  ) -> Float[Array, "A V"]:
    """The logits of all answer tokens but the first."""
    before = len(answer) - 1
    tokens = np.zeros((1, room), np.int32)
    tokens[0, :before] = answer[:before]
    logits = FORCE(f"{label} + {room}", self._model, self._loaded.params, cache, tokens)
    return logits[:before]


def greedy_ids(loaded: LoadedModel, logits: Float[Array, "A V"]) -> list[int]:
  """The likeliest ids, as generation would choose them."""
  vocabulary = min(loaded.model.vocab, loaded.processor.tokenizer.vocab_size)
  return jnp.argmax(logits[:, :vocabulary], axis=-1).tolist()


def read_chunk(model: VideoLM, params, cache: Cache, start, tokens, index, count, table) -> Cache:
  """Reads a chunk of a context into slots `start` [1] and following."""
  _, cache = _extend(model, params, cache, start, tokens, index, count, table)
  return cache


def answer_question(
  model: VideoLM,
  params,
  cache: Cache,
  start,
  tokens,
  index,
  count,
  table,
  first,
  *,
  room: int,
):
  """(logits [room V] from place `first` of a question on, cache)."""
  hidden, cache = _extend(model, params, cache, start, tokens, index, count, table)
  places = jnp.minimum(first + jnp.arange(room), hidden.shape[1] - 1)
  return _logits(model, params, hidden[:, places]), cache


def force_tokens(model: VideoLM, params, cache, tokens):
  """Logits [A V] after each of the tokens [1 A]."""
  positions = cache.length[:, None] + jnp.arange(tokens.shape[1])
  hidden, _ = model.apply({"params": params}, tokens, positions, cache, method="extend")
  return _logits(model, params, hidden)


def empty_row_cache(model: VideoLM, params, *, slots: int) -> Cache:
  """An empty cache of one row."""
  result = model.apply({"params": params}, 1, slots, method=_llm_cache)
  return cast(Cache, result)  # apply returns a pair only if some collection is mutable.


def _llm_cache(model: VideoLM, batch: int, slots: int):
  """An empty cache of all layers.

  All have the same slots: contexts are shared only if nothing is dropped.
  """
  return model.llm.empty_cache(batch, slots)


def resize_cache(cache: Cache, *, slots: int) -> Cache:
  """A copy of a cache with more or fewer slots."""
  fit = functools.partial(_with_slots, slots=slots)
  return dataclasses.replace(cache, k=jax.tree.map(fit, cache.k), v=jax.tree.map(fit, cache.v))


def _with_slots(x, slots: int):
  """Keys or values [... S d] with `slots` slots.

  Never the same buffer, which may be donated.
  """
  missing = max(0, slots - x.shape[-2])
  first = jnp.copy(x[..., :slots, :])
  lead = ((0, 0),) * (x.ndim - 2)
  return jnp.pad(first, (*lead, (0, missing), (0, 0)))


def _extend(model: VideoLM, params, cache: Cache, start, tokens, index, count, table):
  """VideoLM.extend from slot `start` on."""
  cache = dataclasses.replace(cache, length=start)
  positions = start[:, None] + jnp.arange(tokens.shape[1])
  return model.apply(
    {"params": params}, tokens, positions, cache, count, table, index, method="extend"
  )


def _logits(model: VideoLM, params, hidden):
  """Hidden states [1 A D] -> logits f32 [A V]."""
  result = model.apply({"params": params}, hidden, method="logits")
  logits = cast(Array, result)  # apply returns a pair only if some collection is mutable.
  return logits[0]


def _with_answer(question: IndexedTokens, answer: Sequence[int]) -> IndexedTokens:
  """The question, and the answer without its last token."""
  before = np.asarray(answer[:-1], np.int32)
  no_visuals = np.full(len(before), TEXT, np.int32)
  return joined_tokens([question, IndexedTokens(before, no_visuals)])


def padded_stretch(
  content: IndexedTokens, first: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(tokens [1 size], index [1 size], count [1]) of a stretch."""
  tokens = content.tokens[first : first + size]
  index = content.index[first : first + size]
  missing = size - len(tokens)
  return (
    np.pad(tokens, (0, missing))[None],
    np.pad(index, (0, missing), constant_values=TEXT)[None],
    np.full(1, len(tokens), np.int32),
  )


READ = CountedProgram("prefix", read_chunk, static_argnums=0, donate_argnums=2)
ASK = CountedProgram(
  "question", answer_question, static_argnums=0, static_argnames="room", donate_argnums=2
)
FORCE = CountedProgram("answer", force_tokens, static_argnums=0)
EMPTY = CountedProgram("cache", empty_row_cache, static_argnums=0, static_argnames="slots")
RESIZE = CountedProgram("cache copy", resize_cache, static_argnames="slots")
