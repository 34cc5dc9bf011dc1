# SPDX-License-Identifier: Apache-2.0
"""Decoding in chunks: a device call gives several tokens, and the state to go on from.

B rows, V vocabulary. `start_decoding` chooses the first token of every row from the logits of a
prefill; every `decode_chunk` reads and chooses up to `steps` more. The state holds everything that
a later chunk needs, so the tokens do not depend on the length of the chunks, and whoever stops
asking for chunks leaves nothing running. The cache stays one buffer: it is donated to each call,
updated in place, and handed back.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, cast

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
import numpy as np

from filax.infer.compiled import CountedProgram
from filax.models.video_lm import VideoLM
from filax.ops import sampling
from filax.parallel.rules import constrain

NOTHING = -1  # In the place of an id: the row has ended.
STEPS = 8  # Tokens of a chunk.


@struct.dataclass
class Sampling:
  """How tokens are chosen; arrays, so that no setting compiles anew."""

  temperature: Any  # float32; 0 goes with greedy=True.
  top_p: Any  # float32
  top_k: Any  # int32; 0 = all.
  vocab: Any  # int32: ids from here on are never chosen.
  stop: Any  # int32 [stops]: ids that end a row.


@struct.dataclass
class Decoding:
  """The state of B answers between two chunks."""

  cache: Any  # Of all tokens but the last: Cache or RangeCaches.
  token: Int[Array, "B"]  # The last token of every row.
  count: Int[Array, "B"]  # Tokens given.
  limit: Int[Array, "B"]  # Tokens to give at most.
  stopped: Bool[Array, "B"]  # Whether a stop id came.
  step: Int[Array, ""]  # Tokens drawn; the draw of step n folds n into the key.
  key: PRNGKeyArray

  @property
  def active(self) -> Bool[Array, "B"]:
    """Whether a row goes on."""
    return ~self.stopped & (self.count < self.limit)


def sampling_settings(
  model: VideoLM,
  *,
  temperature: float = 0.0,
  top_p: float = 1.0,
  top_k: int = 0,
  vocab: int | None = None,
  stop: Sequence[int] = (),
) -> Sampling:
  """Settings of sampling as runtime arguments of the programs.

  `vocab` defaults to the model's vocabulary, and is never beyond it.
  """
  vocab = model.vocab if vocab is None else min(vocab, model.vocab)
  return Sampling(
    temperature=np.float32(temperature),
    top_p=np.float32(top_p),
    top_k=np.int32(top_k),
    vocab=np.int32(vocab),
    stop=np.asarray(stop, np.int32),
  )


def start_decoding(
  logits: Float[Array, "B V"],
  cache,
  key: PRNGKeyArray,
  limit: Int[Array, "B"],
  settings: Sampling,
  *,
  greedy: bool,
) -> tuple[Int[Array, "B 1"], Float[Array, "B 1"], Decoding]:
  """The first token of every row, from the logits of a prefill.

  Returns ids, log-probabilities and the state, as `decode_chunk`.
  """
  zeros = jnp.zeros(logits.shape[:1], jnp.int32)
  state = Decoding(cache, zeros, zeros, limit, zeros > 0, jnp.int32(0), key)
  ids, logprobs, state = _with_token(state, logits, settings, greedy)
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

  This is one loop on the device. Returns their ids, the logarithms of their probabilities (float32;
  under softmax of the logits, before temperature, top_p and top_k), and the state to go on from. An
  id is NOTHING from the stop id of its row on, and beyond its limit. The loop ends early when no
  row goes on.
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
    id_, logprob, state = _with_token(state, logits, settings, greedy)
    ids = lax.dynamic_update_slice(ids, id_[:, None], (0, number))
    logprobs = lax.dynamic_update_slice(logprobs, logprob[:, None], (0, number))
    return number + 1, ids, logprobs, state

  ids = jnp.full((batch, steps), NOTHING, jnp.int32)
  logprobs = jnp.zeros((batch, steps), jnp.float32)
  _, ids, logprobs, state = lax.while_loop(goes_on, next_token, (0, ids, logprobs, state))
  return constrain(ids, "- -"), constrain(logprobs, "- -"), _readable(state)


def _readable(state: Decoding) -> Decoding:
  """The state with what the host reads on every process."""
  return dataclasses.replace(
    state,
    stopped=constrain(state.stopped, "-"),
    count=constrain(state.count, "-"),
    limit=constrain(state.limit, "-"),
  )


def _next_logits(model: VideoLM, params, hidden: Float[Array, "B 1 D"]) -> Float[Array, "B rows"]:
  """Logits of all rows of the table, padding included."""
  result = model.apply({"params": params}, hidden, method="table_logits")
  logits = cast(Array, result)  # apply returns a pair only if some collection is mutable.
  return logits[:, 0]


def _with_token(state: Decoding, logits, settings: Sampling, greedy: bool):
  """Chooses a token of every active row.

  Returns (ids [B], log-probabilities [B], state).
  """
  token, logprob = _choose_token(logits, state, settings, greedy)
  active = state.active
  is_stop = (token[:, None] == settings.stop).any(-1)
  is_given = active & ~is_stop
  after = dataclasses.replace(
    state,
    token=jnp.where(active, token, state.token),
    count=state.count + is_given,
    stopped=state.stopped | (active & is_stop),
    step=state.step + 1,
  )
  return jnp.where(is_given, token, NOTHING), jnp.where(active, logprob, 0.0), after


def _choose_token(logits, state: Decoding, settings: Sampling, greedy: bool):
  """(token [B], its log-probability [B]) from logits of the table."""
  real = jnp.arange(logits.shape[-1]) < settings.vocab
  logits = jnp.where(real, logits.astype(jnp.float32), -jnp.inf)
  if greedy:
    token = sampling.greedy(logits)
  else:
    key = jax.random.fold_in(state.key, state.step)
    token = sampling.draw(logits, key, settings.temperature, settings.top_p, settings.top_k)
  return token, sampling.log_probability(logits, token)


def decode_arguments(
  model: VideoLM, params: Any, rows: int, slots: Sequence[int], stops: int = 2
) -> tuple[Any, Decoding, Sampling]:
  """Shapes of the arguments (params, state, settings) of `decode_chunk`.

  To compile ahead of time, from parameters or their shapes. `slots`: the places of the cache, one
  number for each range of layers between the stages of visual dropout.
  """

  def empty_state(params):
    cache = model.apply({"params": params}, rows, tuple(slots), method="empty_cache")
    zeros = jnp.zeros((rows,), jnp.int32)
    key = jax.random.key(0)
    return Decoding(cache, zeros, zeros, zeros, zeros > 0, jnp.int32(0), key)

  settings = sampling_settings(model, stop=(0,) * stops)
  shapes = jax.eval_shape(lambda params: (params, empty_state(params), settings), params)
  return shapes


START = CountedProgram("first token", start_decoding, static_argnames="greedy", donate_argnums=1)
DECODE = CountedProgram(
  "decode", decode_chunk, static_argnums=0, static_argnames=("steps", "greedy"), donate_argnums=2
)
