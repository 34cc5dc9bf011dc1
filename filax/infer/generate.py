# SPDX-License-Identifier: Apache-2.0
"""Generation: prefill, then decoding on the device with a static KV cache.

B rows, L prompt positions (a bucket), M visual tokens, N new tokens (a bucket), V vocabulary.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import time
from typing import cast

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from filax.infer.compiled import CountedProgram, bucket
from filax.models.video_lm import VideoLM
from filax.ops import sampling
from filax.parallel.rules import constrain
from filax.spec import TEXT, dropout_stages

LENGTHS = (
  64,
  128,
  256,
  512,
  1024,
  1536,
  2048,
  3072,
  4096,
  6144,
  8192,
  12_288,
  16_384,
  24_576,
  32_768,
  49_152,
  65_536,
  98_304,
  131_072,
  196_608,
  262_144,
  524_288,
  1_048_576,
)
Integers = Sequence[int] | np.ndarray
CHUNK = 4096  # Positions of a prompt that pass the layers at a time.
NEW = (16, 64, 256, 1024, 4096, 16_384)  # Buckets of new tokens: the cache holds L + N places.


@dataclasses.dataclass(frozen=True)
class Generated:
  """New token ids of every row, without the stop id."""

  tokens: list[list[int]]
  stopped: list[bool]  # True if a stop id ended the row, False for max_new_tokens.
  prefill_seconds: float
  decode_seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class PaddedPrompts:
  """Prompts of one length, and how visual dropout shortens them."""

  tokens: np.ndarray  # int32 [B L]
  counts: np.ndarray  # int32 [B]: the tokens of each prompt.
  visual_index: np.ndarray | None  # int32 [B L]
  keep: np.ndarray  # int32 [B stages 1]: visual tokens kept after every stage.
  room: tuple[int, ...]  # The length of the rows after every stage.

  @property
  def label(self) -> str:
    """The shapes in words: "3 x 64 -> 32"."""
    rows, length = self.tokens.shape
    return f"{rows} x {' -> '.join(map(str, (length, *self.room)))}"


def generate(
  model: VideoLM,
  params: Mapping,
  prompts: Sequence[Sequence[int]],
  *,
  table: Float[Array, "B M D"] | None = None,
  visual_index: Sequence[Integers] | None = None,
  max_new_tokens: int = 64,
  temperature: float = 0.0,
  top_p: float = 1.0,
  top_k: int = 0,
  stop: Sequence[int] = (),
  seed: int = 0,
  vocab: int | None = None,
  lengths: Sequence[int] = LENGTHS,
  mesh: jax.sharding.Mesh | None = None,
) -> Generated:
  """Continues B prompts of token ids, padded to a bucket of `lengths`.

  `table` [B M D] and `visual_index` (one list per prompt) insert visual tokens. temperature 0 is
  greedy. Ids from `vocab` on (default: the model's vocabulary) are never generated. The same seed
  gives the same text. `mesh` is the mesh of the parameters (default: one device). Raises ValueError
  for an invalid setting, or a prompt beyond the context.
  """
  check_answer_settings(max_new_tokens, temperature, top_p, top_k)
  check_prompts(model, prompts, max_new_tokens)
  index = None if table is None else visual_index
  padded = pad_prompts(model, prompts, index, tuple(lengths))
  room = bucket(max_new_tokens, NEW, "filax.infer.generate.NEW")
  settings = _sampling_settings(model, temperature, top_p, top_k, vocab)
  llm_only = language_model(model)
  start = time.perf_counter()
  with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
    logits, cache = _prefilled(llm_only, params, padded, table, room)
    middle = time.perf_counter()
    answers, _ = DECODE(
      f"{padded.label} + {room}",
      llm_only,
      params,
      cache,
      logits,
      jax.random.key(seed),
      np.asarray(stop, np.int32),
      np.int32(max_new_tokens),
      settings,
      room=room,
      greedy=temperature == 0,
    )
    ids, counts, stopped = jax.device_get(answers)
  end = time.perf_counter()
  rows = [row[:count].tolist() for row, count in zip(ids, counts, strict=True)]
  return Generated(rows, stopped.tolist(), middle - start, end - middle)


def _sampling_settings(
  model: VideoLM, temperature: float, top_p: float, top_k: int, vocab: int | None
) -> dict[str, np.generic]:
  """The sampling settings as runtime arguments of a compiled program."""
  vocab = model.vocab if vocab is None else min(vocab, model.vocab)
  return dict(
    temperature=np.float32(temperature),
    top_p=np.float32(top_p),
    top_k=np.int32(top_k),
    vocab=np.int32(vocab),
  )


def _prefilled(model: VideoLM, params: Mapping, padded: PaddedPrompts, table, spare: int):
  """Runs `prefill` and waits for it.

  Returns the logits of the next token [B V] and the cache.
  """
  logits, cache = PREFILL(
    padded.label,
    model,
    params,
    padded.tokens,
    padded.counts,
    table,
    padded.visual_index,
    padded.keep,
    room=padded.room,
    spare=spare,
  )
  return jax.block_until_ready(logits), cache


def pad_prompts(
  model: VideoLM,
  prompts: Sequence[Sequence[int]],
  visual_index: Sequence[Integers] | None,
  lengths: tuple[int, ...],
) -> PaddedPrompts:
  """Pads prompts to the smallest bucket, and schedules visual dropout."""
  counts = np.array([len(prompt) for prompt in prompts], np.int32)
  length = bucket(int(counts.max()), lengths, "config.infer.lengths")
  tokens = pad(prompts, length, 0)
  index = None if visual_index is None else pad(visual_index, length, TEXT)
  keep, room = dropout_schedule(model, counts, index, length, lengths)
  return PaddedPrompts(tokens, counts, index, keep, room)


def dropout_schedule(
  model: VideoLM,
  counts: np.ndarray,
  index: np.ndarray | None,
  length: int,
  lengths: tuple[int, ...],
) -> tuple[np.ndarray, tuple[int, ...]]:
  """The schedule of visual dropout for prompts of `counts` tokens.

  Returns the visual tokens kept after every stage, i32 [B stages 1], and the bucket length of the
  prompts after every stage.
  """
  visual = np.zeros_like(counts) if index is None else (index != TEXT).sum(1)
  kept = dropout_stages.kept(visual, model.stages)
  longest = (counts - visual + kept).max(1)
  room = []
  for size in longest:
    room.append(min(length, bucket(int(size), lengths, "config.infer.lengths")))
  return np.ascontiguousarray(kept.T)[:, :, None], tuple(room)


def prefill(
  model, params, tokens, lengths, table, visual_index, keep, *, room: tuple[int, ...], spare: int
):
  """Prefills the KV cache with right-padded prompts [B L].

  Returns the logits of the next token [B V] and the cache.
  """
  last, cache = model.apply(
    {"params": params},
    tokens,
    lengths,
    table,
    visual_index,
    keep,
    room,
    spare,
    CHUNK,
    method="prefill",
  )
  return _next_logits(model, params, last[:, None]), cache


def decode_tokens(
  model, params, cache, logits, key, stop, limit, settings, *, room: int, greedy: bool
):
  """Generates up to `limit` tokens a row in one while_loop.

  The loop ends when every row has produced a stop id.

  Returns (ids [B N], number of valid ids [B], whether a stop id came [B]), and the cache, which is
  updated in place and lacks the last token.
  """
  batch = logits.shape[0]

  def append_token(state, logits, cache):
    step, ids, count, stopped, _, _ = state
    token = _choose_token(logits, key, step, settings, greedy)
    ids = lax.dynamic_update_slice(ids, token[:, None], (0, step))
    stopped = stopped | (token[:, None] == stop).any(-1)
    return step + 1, ids, count + ~stopped, stopped, token, cache

  def next_step(state):
    *_, token, cache = state
    hidden, cache = model.apply(
      {"params": params}, token[:, None], cache.length[:, None], cache, method="extend"
    )
    return append_token(state, _next_logits(model, params, hidden), cache)

  def goes_on(state):
    step, _, _, stopped, _, _ = state
    return (step < limit) & ~stopped.all()

  zeros = jnp.zeros((batch,), jnp.int32)
  step = jnp.int32(0)
  ids = jnp.zeros((batch, room), jnp.int32)
  empty = (step, ids, zeros, zeros > 0, zeros, cache)
  state = lax.while_loop(goes_on, next_step, append_token(empty, logits, cache))
  _, ids, count, stopped, _, cache = state
  answers = (constrain(ids, "- -"), constrain(count, "-"), constrain(stopped, "-"))
  return answers, cache  # Every process reads all answers.


def _next_logits(model: VideoLM, params, hidden):
  """Hidden states [B 1 D] -> logits [B V]."""
  result = model.apply({"params": params}, hidden, method="logits")
  logits = cast(Array, result)  # apply returns a pair only if some collection is mutable.
  return logits[:, 0]


def _choose_token(logits, key, step, settings, greedy: bool):
  """Chooses the next token [B] of every row from logits [B V]."""
  real = jnp.arange(logits.shape[-1]) < settings["vocab"]
  logits = jnp.where(real, logits.astype(jnp.float32), -jnp.inf)
  if greedy:
    return sampling.greedy(logits)
  return sampling.draw(
    logits,
    jax.random.fold_in(key, step),
    settings["temperature"],
    settings["top_p"],
    settings["top_k"],
  )


PREFILL = CountedProgram("prefill", prefill, static_argnums=0, static_argnames=("room", "spare"))
DECODE = CountedProgram(
  "decode", decode_tokens, static_argnums=0, static_argnames=("room", "greedy"), donate_argnums=2
)


class _Absent(nn.Module):
  """A placeholder for an unused component."""


def language_model(model: VideoLM) -> VideoLM:
  """The model reduced to its llm.

  Models that differ only in their visual components then share compiled programs.
  """
  absent = _Absent()
  return model.clone(
    encoder=absent, selector=absent, merger=absent, projector=absent, encode_chunk=0
  )


def pad(rows: Sequence[Integers], length: int, value: int) -> np.ndarray:
  """Lists of ints -> int32 [B length], filled up on the right."""
  out = np.full((len(rows), length), value, np.int32)
  for line, row in zip(out, rows, strict=True):
    line[: len(row)] = row
  return out


def context_length(model: VideoLM) -> int:
  """The llm's context length in positions, including YaRN."""
  llm = model.llm
  if llm.yarn is None:
    return llm.positions
  factor, positions = llm.yarn
  return int(factor * positions)


def check_prompts(model: VideoLM, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
  """Raises ValueError for an empty prompt, or a prompt beyond the context."""
  if not prompts or not min(map(len, prompts)):
    raise ValueError("generate() needs at least one prompt, and one token in every prompt.")
  longest = max(map(len, prompts))
  if longest + max_new_tokens > context_length(model):
    raise ValueError(
      f"A prompt of {longest} tokens and max_new_tokens={max_new_tokens} exceed the context of "
      f"{context_length(model)}. Lower config.infer.sampling.frames or max_new_tokens, or set "
      f"config.model.llm.yarn=(factor, {model.llm.positions})."
    )


def check_answer_settings(
  max_new_tokens: int, temperature: float, top_p: float, top_k: int
) -> None:
  """Raises ValueError naming an invalid setting."""
  if max_new_tokens < 1:
    raise ValueError(f"max_new_tokens={max_new_tokens} leaves nothing to say. Set it to 1 or more.")
  if not temperature >= 0:
    raise ValueError(f"temperature={temperature} must not be negative; 0 is greedy.")
  if not 0 < top_p <= 1:
    raise ValueError(f"top_p={top_p} must lie in (0, 1]; 1 keeps every token.")
  if top_k < 0:
    raise ValueError(f"top_k={top_k} must not be negative; 0 keeps every token.")
