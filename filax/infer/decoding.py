# SPDX-License-Identifier: Apache-2.0
"""Decoding in chunks: a device call gives several tokens, and the state to continue from.

`start_decoding` chooses the first token of every row from the logits of a prefill. Every
`decode_chunk` then generates up to `steps` more. The state holds everything that a later chunk
needs. So the tokens do not depend on the length of the chunks, and a caller may stop at any chunk
without leaving anything running on the device.

There is only one cache: it is donated to each call, updated in place, and returned. In shapes: B
rows, V vocabulary.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, cast

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray
import numpy as np

from filax.infer.compiled import CountedProgram
from filax.models.video_lm import VideoLM
from filax.ops import sampling
from filax.parallel.rules import constrain

NOTHING = -1  # Stands in place of a token id if the row has ended.
STEPS = 8  # The number of tokens of a chunk.


@struct.dataclass
class Sampling:
  """The settings by which tokens are chosen.

  They are arrays, so that another setting needs no compilation. Temperature, top_p, top_k, min_p
  and repetition_penalty are one number for all rows, or one per row [B].
  """

  temperature: Any  # float32; 0 is greedy.
  top_p: Any  # float32
  top_k: Any  # int32; 0 = all.
  min_p: Any  # float32; 0 = all.
  repetition_penalty: Any  # float32; has an effect if the state has `seen`.
  vocab: Any  # int32: ids from here on are never chosen.
  stop: Any  # int32 [stops]: ids that end a row.


@struct.dataclass
class Decoding:
  """The state of B answers between two chunks."""

  cache: Any  # Cache or RangeCaches; it holds all tokens but the last.
  token: Int[Array, "B"]  # The last token of every row.
  count: Int[Array, "B"]  # The number of tokens that were generated.
  limit: Int[Array, "B"]  # The most tokens to generate.
  stopped: Bool[Array, "B"]  # Whether a stop id was generated.
  step: Int[Array, "B"]  # The number of random draws so far.
  key: Key[Array, "B"]  # The random key of each row's seed.
  row: Int[Array, "B"]  # Distinguishes several answers with one seed (sampling.row_keys).
  seen: Any = None  # bool [B V]: tokens of prompt and answer; None without a penalty.

  @property
  def active(self) -> Bool[Array, "B"]:
    """Whether a row continues."""
    return ~self.stopped & (self.count < self.limit)


def sampling_settings(
  model: VideoLM,
  *,
  temperature: Any = 0.0,
  top_p: Any = 1.0,
  top_k: Any = 0,
  min_p: Any = 0.0,
  repetition_penalty: Any = 1.0,
  vocab: int | None = None,
  stop: Sequence[int] = (),
) -> Sampling:
  """Sampling settings as arrays, for the compiled programs.

  The first five are numbers, or one number per row. vocab: the vocabulary of the model by default,
  which is also the largest value.
  """
  vocab = model.vocab if vocab is None else min(vocab, model.vocab)
  return Sampling(
    temperature=np.asarray(temperature, np.float32),
    top_p=np.asarray(top_p, np.float32),
    top_k=np.minimum(np.asarray(top_k, np.float64), model.vocab).astype(np.int32),
    min_p=np.asarray(min_p, np.float32),
    repetition_penalty=np.asarray(repetition_penalty, np.float32),
    vocab=np.int32(vocab),
    stop=np.asarray(stop, np.int32),
  )


def start_decoding(
  logits: Float[Array, "P V"],
  cache,
  key: PRNGKeyArray,
  limit: Int[Array, "B"],
  settings: Sampling,
  seen: Bool[Array, "B V"] | None = None,
  *,
  greedy: bool,
  answers: int = 1,
) -> tuple[Int[Array, "B 1"], Float[Array, "B 1"], Decoding]:
  """The first token of every row, from the logits of P prompts.

  Each prompt starts `answers` rows, so B = P * answers. seen: the tokens of the prompts, for a
  repetition penalty. Returns ids, log-probabilities and the state, as `decode_chunk` does.
  """
  if answers > 1:
    logits = jnp.repeat(logits, answers, axis=0)
    cache = cache.repeated(answers)
  rows = logits.shape[0]
  zeros = jnp.zeros((rows,), jnp.int32)
  state = Decoding(
    cache=cache,
    token=zeros,
    count=zeros,
    limit=limit,
    stopped=zeros > 0,
    step=zeros,
    key=jnp.broadcast_to(key, (rows,)),
    row=jnp.arange(rows, dtype=jnp.int32),
    seen=seen,
  )
  ids, logprobs, state = with_token(state, logits, settings, greedy)
  return constrain(ids[:, None], "- -"), constrain(logprobs[:, None], "- -"), _readable(state)


def decode_chunk(
  model: VideoLM,
  params: Mapping,
  state: Decoding,
  settings: Sampling,
  *,
  steps: int,
  greedy: bool,
) -> tuple[Int[Array, "B steps"], Float[Array, "B steps"], Decoding]:
  """Generates up to `steps` more tokens of every row.

  They are generated in one loop on the device. Returns the ids, their log-probabilities (float32),
  and the state for the next chunk. After a row has ended, by a stop id or by its limit, its ids are
  NOTHING. When all rows have ended, the loop ends early. The log-probabilities are those of the
  plain softmax of the logits, before penalty, temperature and cuts.
  """
  batch = state.token.shape[0]

  def goes_on(carry):
    number, _, _, state = carry
    return (number < steps) & state.active.any()

  def next_token(carry):
    number, ids, logprobs, state = carry
    positions = state.cache.length[:, None]
    added = state.active.astype(jnp.int32)
    hidden, cache = model.apply(
      {"params": params}, state.token[:, None], positions, state.cache, added, method="extend"
    )
    logits = _next_logits(model, params, hidden)
    state = dataclasses.replace(state, cache=cache)
    id_, logprob, state = with_token(state, logits, settings, greedy)
    ids = lax.dynamic_update_slice(ids, id_[:, None], (0, number))
    logprobs = lax.dynamic_update_slice(logprobs, logprob[:, None], (0, number))
    return number + 1, ids, logprobs, state

  ids = jnp.full((batch, steps), NOTHING, jnp.int32)
  logprobs = jnp.zeros((batch, steps), jnp.float32)
  _, ids, logprobs, state = lax.while_loop(goes_on, next_token, (0, ids, logprobs, state))
  return constrain(ids, "- -"), constrain(logprobs, "- -"), _readable(state)


def _readable(state: Decoding) -> Decoding:
  """The state, with the fields that every process reads replicated."""
  return dataclasses.replace(
    state,
    stopped=constrain(state.stopped, "-"),
    count=constrain(state.count, "-"),
    limit=constrain(state.limit, "-"),
  )


def _next_logits(model: VideoLM, params, hidden: Float[Array, "B 1 D"]) -> Float[Array, "B rows"]:
  """The logits of all rows of the output table, padding included."""
  result = model.apply({"params": params}, hidden, method="table_logits")
  logits = cast(Array, result)  # apply returns a pair only if some collection is mutable.
  return logits[:, 0]


def with_token(
  state: Decoding, logits: Float[Array, "B rows"], settings: Sampling, greedy: bool
) -> tuple[Int[Array, "B"], Float[Array, "B"], Decoding]:
  """Chooses the next token of every row that continues.

  Returns ids (NOTHING for rows that have ended), log-probabilities and the new state.
  """
  token, logprob = _choose_token(logits, state, settings, greedy)
  active = state.active
  is_stop = (token[:, None] == settings.stop).any(-1)
  is_given = active & ~is_stop
  seen = state.seen
  if seen is not None:
    seen = seen.at[jnp.arange(len(token)), token].max(is_given)
  after = dataclasses.replace(
    state,
    token=jnp.where(active, token, state.token),
    count=state.count + is_given,
    stopped=state.stopped | (active & is_stop),
    step=state.step + 1,
    seen=seen,
  )
  return jnp.where(is_given, token, NOTHING), jnp.where(active, logprob, 0.0), after


def _choose_token(logits, state: Decoding, settings: Sampling, greedy: bool):
  """(token [B], its log-probability [B]) from logits of the output table.

  greedy: True if all rows are greedy. Otherwise, the rows with temperature 0 are.
  """
  real = jnp.arange(logits.shape[-1]) < settings.vocab
  logits = jnp.where(real, logits.astype(jnp.float32), -jnp.inf)
  scores = logits
  if state.seen is not None:  # `seen` has one column per token; the table may have more.
    vocabulary = logits[:, : state.seen.shape[-1]]
    scores = sampling.penalised(vocabulary, state.seen, settings.repetition_penalty)
  token = sampling.greedy(scores)
  if not greedy:
    keys = sampling.row_keys(state.key, state.step, state.row)
    is_drawn = settings.temperature > 0
    temperature = jnp.where(is_drawn, settings.temperature, 1.0)
    drawn = sampling.draw(scores, keys, temperature, settings.top_p, settings.top_k, settings.min_p)
    token = jnp.where(is_drawn, drawn, token)
  return token, sampling.log_probability(logits, token)


def empty_decoding(cache, rows: int, seen: Bool[Array, "B V"] | None = None) -> Decoding:
  """A state of rows that have all ended.

  No two fields are the same array, since a program that is given the state may reuse its memory.
  """

  def zeros(dtype=jnp.int32):
    return jnp.zeros((rows,), dtype)

  return Decoding(
    cache=cache,
    token=zeros(),
    count=zeros(),
    limit=zeros(),
    stopped=zeros(bool),
    step=zeros(),
    key=jnp.broadcast_to(jax.random.key(0), (rows,)),
    row=zeros(),
    seen=seen,
  )


def decode_arguments(
  model: VideoLM, params: Any, rows: int, slots: Sequence[int], stops: int = 2
) -> tuple[Any, Decoding, Sampling]:
  """The shapes of the arguments (params, state, settings) of `decode_chunk`.

  Use them to compile ahead of time. params: parameters or their shapes. slots: the number of places
  in the cache of each range of layers between the stages of visual dropout.
  """

  def empty_state(params):
    cache = model.apply({"params": params}, rows, tuple(slots), method="empty_cache")
    return empty_decoding(cache, rows)

  settings = sampling_settings(model, stop=(0,) * stops)
  shapes = jax.eval_shape(lambda params: (params, empty_state(params), settings), params)
  return shapes


_START_STATICS = ("greedy", "answers")
START = CountedProgram(
  "first token", start_decoding, static_argnames=_START_STATICS, donate_argnums=1
)
START_SEVERAL = CountedProgram("first tokens", start_decoding, static_argnames=_START_STATICS)
DECODE = CountedProgram(
  "decode", decode_chunk, static_argnums=0, static_argnames=("steps", "greedy"), donate_argnums=2
)
