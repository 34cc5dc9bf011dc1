# SPDX-License-Identifier: Apache-2.0
"""Answers of equal shape that are decoded together.

A lane holds R rows of L prompt positions and N new tokens. A prompt is read alone, so its shapes
depend on nothing but itself; its answers then take free rows of a lane, between two chunks. Rows do
not see each other, and every row has its own settings and random numbers.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import time

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
import numpy as np

from filax.infer import decoding
from filax.infer.compiled import CountedProgram
from filax.infer.decoding import Decoding, Sampling
from filax.infer.generate import (
  PaddedPrompts,
  TokenChunk,
  language_model,
  prefilled,
  read_chunk,
)
from filax.infer.loaded import LoadedModel


@dataclasses.dataclass(frozen=True)
class LaneShape:
  """What the answers of a lane have in common."""

  variant: tuple[str, str]  # Selector and dropout.
  length: int  # L, positions of a prompt.
  room: tuple[int, ...]  # The same after each stage of visual dropout.
  new_tokens: int  # N
  penalised: bool  # Whether the tokens seen are kept, for a repetition penalty.

  @property
  def places(self) -> tuple[int, ...]:
    """Places of a row in the cache of each range of layers."""
    return tuple(size + self.new_tokens for size in (self.length, *self.room))

  @property
  def words(self) -> str:
    """The shape in words: "64 -> 32 + 16"."""
    return f"{' -> '.join(map(str, (self.length, *self.room)))} + {self.new_tokens}"


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedPrompt:
  """A padded prompt and how it is answered."""

  padded: PaddedPrompts  # Of one row.
  table: jax.Array | None  # [1 M D]
  shape: LaneShape
  key: PRNGKeyArray
  limit: int  # New tokens of each answer at most.
  temperature: float
  top_p: float
  top_k: int
  min_p: float
  repetition_penalty: float
  seen: np.ndarray | None  # bool [1 V]


_PATIENCE = 8  # Chunks with few answers before a lane gets smaller.
# Setting of a row -> its value without an answer. One row that cuts tokens makes all be sorted.
_NEUTRAL = dict(temperature=0.0, top_p=1.0, top_k=0.0, min_p=0.0, repetition_penalty=1.0)


class Lane:
  """The rows of one shape on the device, and who has them.

  An owner is any object; None is a free row.
  """

  def __init__(self, loaded: LoadedModel, shape: LaneShape, row_sizes: Sequence[int]):
    self._loaded = loaded
    self._model = language_model(loaded.model)
    self.shape = shape
    self._row_sizes = tuple(row_sizes)
    self._state: Decoding | None = None
    self.owners: list[object | None] = []
    self._limit = np.zeros(0, np.int32)
    self._settings = {name: np.zeros(0, np.float32) for name in _NEUTRAL}
    self._sparse_chunks = 0  # One after another, in which a quarter of the rows was enough.

  @property
  def rows(self) -> int:
    """The rows on the device."""
    return len(self.owners)

  @property
  def is_empty(self) -> bool:
    """Whether no row has an owner."""
    return all(owner is None for owner in self.owners)

  def rows_with(self, answers: int) -> int | None:
    """The rows of the lane with more answers; None for too many."""
    taken = sum(owner is not None for owner in self.owners)
    for size in self._row_sizes:
      if size >= max(self.rows, taken + answers):
        return size
    return None

  def begin(self, prompt: PreparedPrompt, owners: Sequence[object]) -> TokenChunk:
    """Reads a prompt, and gives the first token of each answer.

    The rows of the chunk are those of the owners. `rows_with` must have allowed it.
    """
    start = time.perf_counter()
    rows = self.rows_with(len(owners))
    if rows is None:
      raise RuntimeError("The lane has no free rows.")
    with self._loaded.on_mesh():
      logits, cache = prefilled(
        self._model, self._loaded.params, prompt.padded, prompt.table, self.shape.new_tokens
      )
      self._enlarge(cache, rows)
      places = self._take_rows(prompt, owners)
      ids, logprobs, self._state = BEGIN(
        f"{rows} x {self.shape.words}",
        self._state,
        logits,
        cache,
        places,
        prompt.key,
        self._limit[places],
        self._sampling(places),
        prompt.seen,
        greedy=prompt.temperature == 0,
      )
      chunk, _ = read_chunk(ids, logprobs, self._state, start)
    stopped = [chunk.stopped[place] for place in places]
    return dataclasses.replace(chunk, stopped=stopped)

  def decode(self) -> TokenChunk:
    """The next tokens of all rows."""
    start = time.perf_counter()
    if self._state is None:
      raise RuntimeError("The lane has no rows.")
    state = dataclasses.replace(self._state, limit=jnp.asarray(self._limit))
    taken = np.array([owner is not None for owner in self.owners])
    with self._loaded.on_mesh():
      ids, logprobs, self._state = decoding.DECODE(
        f"{self.rows} x {self.shape.words}",
        self._model,
        self._loaded.params,
        state,
        self._sampling(slice(None)),
        steps=decoding.STEPS,
        greedy=not self._settings["temperature"][taken].any(),
      )
      chunk, _ = read_chunk(ids, logprobs, self._state, start)
    return chunk

  def compact(self) -> None:
    """Makes the batch smaller, if few of its rows are used.

    That is so if few of them have had an owner for some chunks. A row without an owner costs as
    much as one with an owner. At least as many rows stay free as are owned. Example: of 16 rows, 3
    are owned; 8 rows stay, if sizes are powers of 2.
    """
    taken = [row for row, owner in enumerate(self.owners) if owner is not None]
    if not taken or 4 * len(taken) > self.rows:
      self._sparse_chunks = 0
      return
    self._sparse_chunks += 1
    rows = min(size for size in self._row_sizes if size >= 2 * len(taken))
    if self._sparse_chunks < _PATIENCE or rows == self.rows:
      return
    self._sparse_chunks = 0
    free = [row for row, owner in enumerate(self.owners) if owner is None]
    kept = np.asarray((taken + free)[:rows], np.int32)
    label = f"{self.rows} -> {rows} x {self.shape.words}"
    with self._loaded.on_mesh():
      self._state = SHRINK(label, self._state, kept)
    self.owners = [self.owners[row] for row in kept]
    self._limit = self._limit[kept]
    self._settings = {name: values[kept] for name, values in self._settings.items()}

  def free(self, row: int) -> None:
    """Ends the answer in a row."""
    self.owners[row] = None
    self._limit[row] = 0
    for name, value in _NEUTRAL.items():
      self._settings[name][row] = value

  def _take_rows(self, prompt: PreparedPrompt, owners: Sequence[object]) -> np.ndarray:
    """Gives free rows to owners; returns their places, int32 [n]."""
    free = [row for row, owner in enumerate(self.owners) if owner is None]
    places = np.asarray(free[: len(owners)], np.int32)
    for place, owner in zip(places, owners, strict=True):
      self.owners[place] = owner
    self._limit[places] = prompt.limit
    for name in _NEUTRAL:
      self._settings[name][places] = getattr(prompt, name)
    return places

  def _enlarge(self, cache, rows: int) -> None:
    """Gives the lane `rows` rows; those it has keep their places."""
    label = f"{self.rows} -> {rows} x {self.shape.words}"
    missing = rows - self.rows
    if not missing:
      return
    if self._state is None:
      vocab = self._model.vocab if self.shape.penalised else 0
      self._state = OPEN(label, cache, rows=rows, vocab=vocab)
    else:
      self._state = ENLARGE(label, self._state, rows=rows)
    self.owners += [None] * missing
    self._limit = np.pad(self._limit, (0, missing))
    for name, values in self._settings.items():
      self._settings[name] = np.pad(values, (0, missing), constant_values=_NEUTRAL[name])

  def _sampling(self, places) -> Sampling:
    """The settings of some rows."""
    settings = {name: values[places] for name, values in self._settings.items()}
    processor = self._loaded.processor
    return decoding.sampling_settings(
      self._model,
      vocab=processor.tokenizer.vocab_size,
      stop=processor.stop,
      **settings,
    )


def begin_rows(
  state: Decoding,
  logits: Float[Array, "1 V"],
  cache,
  rows: Int[Array, "count"],
  key: PRNGKeyArray,
  limit: Int[Array, "count"],
  settings: Sampling,
  seen: Bool[Array, "1 V"] | None,
  *,
  greedy: bool,
) -> tuple[Int[Array, "count 1"], Float[Array, "count 1"], Decoding]:
  """Puts a prompt into `rows`, with the first token of each answer."""
  count = rows.shape[0]
  begun = decoding.empty_decoding(None, count)
  begun = dataclasses.replace(
    begun,
    limit=limit,
    key=jnp.broadcast_to(key, (count,)),
    row=jnp.arange(count, dtype=jnp.int32),
    seen=None if seen is None else jnp.repeat(seen, count, axis=0),
  )
  first_logits = jnp.repeat(logits, count, axis=0)
  ids, logprobs, begun = decoding.with_token(begun, first_logits, settings, greedy)
  merged = state.cache
  for number in range(count):
    merged = merged.with_row(rows[number], cache)

  def put_rows(old, new):
    return old.at[rows].set(new)

  fields = _changed_fields(put_rows, state, begun)
  return ids[:, None], logprobs[:, None], dataclasses.replace(state, cache=merged, **fields)


def open_rows(cache, *, rows: int, vocab: int) -> Decoding:
  """A state of ended rows, with as many slots as `cache`.

  vocab: the width of `seen`, 0 for none.
  """
  seen = jnp.zeros((rows, vocab), bool) if vocab else None
  return decoding.empty_decoding(cache.with_rows(rows), rows, seen)


def enlarge_rows(state: Decoding, *, rows: int) -> Decoding:
  """The state with ended rows after its own."""
  count = state.token.shape[0]
  seen = None
  if state.seen is not None:
    seen = jnp.zeros((rows, state.seen.shape[-1]), bool)
  larger = decoding.empty_decoding(state.cache.with_rows(rows), rows, seen)

  def put_first(new, old):
    return new.at[:count].set(old)

  return dataclasses.replace(larger, **_changed_fields(put_first, larger, state))


def shrink_rows(state: Decoding, rows: Int[Array, "count"]) -> Decoding:
  """The state of some of its rows, in this order."""

  def pick_rows(old):
    return old[rows]

  fields = _changed_fields(pick_rows, state)
  return dataclasses.replace(state, cache=state.cache.at_rows(rows), **fields)


def _changed_fields(change: Callable[..., Array], *states: Decoding) -> dict[str, Array]:
  """change(a field of each state), for every field but the cache.

  A field that the first state does not have is left out.
  """
  changed = {}
  for field in dataclasses.fields(Decoding):
    values = [getattr(state, field.name) for state in states]
    if field.name != "cache" and values[0] is not None:
      changed[field.name] = change(*values)
  return changed


def row_bytes(loaded: LoadedModel, shape: LaneShape) -> int:
  """Bytes of keys and values of one row."""
  model = language_model(loaded.model)

  def empty_row(params: Mapping):
    return model.apply({"params": params}, 1, shape.places, method="empty_cache")

  cache = jax.eval_shape(empty_row, loaded.params)
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))


BEGIN = CountedProgram("first token", begin_rows, static_argnames="greedy", donate_argnums=0)
OPEN = CountedProgram("rows", open_rows, static_argnames=("rows", "vocab"))
ENLARGE = CountedProgram("rows", enlarge_rows, static_argnames="rows")
SHRINK = CountedProgram("rows", shrink_rows)
