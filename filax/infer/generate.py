# SPDX-License-Identifier: Apache-2.0
"""Generation: prefill, then decoding in chunks with a KV cache of static size.

A prompt is padded to one of a few lengths (buckets), so that few programs are compiled. In shapes:
B rows, L prompt positions (a bucket), M visual tokens, N new tokens (a bucket), V vocabulary.
"""

from collections.abc import Generator, Mapping, Sequence
import dataclasses
import time
from typing import Any, cast

from flax import linen as nn
import jax
from jaxtyping import Array, Float
import numpy as np

from filax.infer import decoding
from filax.infer.answer_settings import check_answer_settings
from filax.infer.compiled import CountedProgram, bucket
from filax.infer.lengths import LENGTHS, NEW
from filax.models.video_lm import VideoLM
from filax.parallel.mesh import on_mesh, without_mesh
from filax.spec import TEXT, dropout_stages

Integers = Sequence[int] | np.ndarray
CHUNK = 4096  # Positions of a prompt that are computed at a time.
CHUNK_ON_GPU = 65_536  # On a GPU, a whole prompt at once is much faster, and memory is large.


@dataclasses.dataclass(frozen=True)
class Generated:
  """New token ids of every row, without the stop id.

  If a prompt has several answers, their rows follow one another.
  """

  tokens: list[list[int]]
  logprobs: list[list[float]]  # The logarithm of each token's probability.
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


@dataclasses.dataclass(frozen=True)
class TokenChunk:
  """The next tokens of every row."""

  ids: list[list[int]]  # Without the stop id.
  logprobs: list[list[float]]  # The logarithm of each token's probability.
  stopped: list[bool]  # Whether a stop id has ended the row.
  seconds: float  # Time of the device; for the first chunk, the time of the prefill.


def generate(
  model: VideoLM,
  params: Mapping,
  prompts: Sequence[Sequence[int]],
  **settings,
) -> Generated:
  """Continues B prompts of token ids to the end.

  settings: those of `stream`, whose chunks it collects.
  """
  rows = len(prompts) * settings.get("answers", 1)
  ids: list[list[int]] = [[] for _ in range(rows)]
  logprobs: list[list[float]] = [[] for _ in range(rows)]
  stopped = [False] * rows
  seconds = []
  for chunk in stream(model, params, prompts, **settings):
    for row in range(rows):
      ids[row] += chunk.ids[row]
      logprobs[row] += chunk.logprobs[row]
    stopped = chunk.stopped
    seconds.append(chunk.seconds)
  return Generated(ids, logprobs, stopped, seconds[0], sum(seconds[1:]))


@without_mesh()
def stream(
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
  min_p: float = 0.0,
  repetition_penalty: float = 1.0,
  stop: Sequence[int] = (),
  answers: int = 1,
  seed: int = 0,
  vocab: int | None = None,
  lengths: Sequence[int] = LENGTHS,
  mesh: jax.sharding.Mesh | None = None,
  steps: int = decoding.STEPS,
) -> Generator[TokenChunk, None, None]:
  """Continues B prompts of token ids, chunk by chunk.

  The first chunk, after the prefill, has one token per row; the others have up to `steps`. A chunk
  is computed when it is asked for, so stopping the iteration cancels the answer. The same seed
  gives the same tokens, whatever `steps` is.

  table, visual_index: the visual tokens [B M D], and their positions, one list per prompt.
  temperature: 0 is greedy.
  repetition_penalty: makes tokens of the prompt and of the answer less likely; 1 has no effect.
  answers: the number of adjacent rows per prompt; the prompt is computed once.
  vocab: ids from this number on are never generated (default: the vocabulary of the model).
  lengths: the buckets to which prompts are padded.
  mesh: the mesh of the parameters (default: one device).

  Raises ValueError at once for an invalid setting or a prompt beyond the context.
  """
  sampling: dict[str, Any] = dict(
    temperature=temperature,
    top_p=top_p,
    top_k=top_k,
    min_p=min_p,
    repetition_penalty=repetition_penalty,
  )
  check_answer_settings(max_new_tokens=max_new_tokens, answers=answers, seed=seed, **sampling)
  check_prompts(model, prompts, max_new_tokens)
  index = None if table is None else visual_index
  padded = pad_prompts(model, prompts, index, tuple(lengths))
  room = bucket(max_new_tokens, NEW, "filax.infer.lengths.NEW")
  settings = decoding.sampling_settings(model, vocab=vocab, stop=stop, **sampling)
  limit = np.full(len(prompts) * answers, max_new_tokens, np.int32)
  seen = _seen_rows(model, prompts, index, answers) if repetition_penalty != 1 else None
  greedy = temperature == 0
  answering = _Answering(limit, settings, seen, greedy, answers, steps)
  key = jax.random.key(seed)
  return _chunks(language_model(model), params, padded, table, room, key, answering, mesh)


@dataclasses.dataclass(frozen=True, eq=False)
class _Answering:
  """The settings with which the answers of a batch are generated."""

  limit: np.ndarray  # int32 [B]: the most tokens of each answer.
  settings: decoding.Sampling
  seen: np.ndarray | None  # bool [B V]: tokens of the prompts, for a repetition penalty.
  greedy: bool
  answers: int
  steps: int


def _chunks(
  model, params, padded, table, room, key, answering: _Answering, mesh
) -> Generator[TokenChunk, None, None]:
  """The chunks of `stream`: prefill and first token, then the others."""
  greedy = answering.greedy
  answers = answering.answers
  settings = answering.settings
  label = f"{padded.label} + {room}"
  start_program = decoding.START if answers == 1 else decoding.START_SEVERAL

  start = time.perf_counter()
  with on_mesh(mesh):
    logits, cache = prefilled(model, params, padded, table, room)
    ids, logprobs, state = start_program(
      label,
      logits,
      cache,
      key,
      answering.limit,
      settings,
      answering.seen,
      greedy=greedy,
      answers=answers,
    )
    del cache
    chunk, active = read_chunk(ids, logprobs, state, start)
  yield chunk
  while active:
    start = time.perf_counter()
    with on_mesh(mesh):
      ids, logprobs, state = decoding.DECODE(
        label, model, params, state, settings, steps=answering.steps, greedy=greedy
      )
      chunk, active = read_chunk(ids, logprobs, state, start)
    yield chunk


def _seen_rows(model: VideoLM, prompts, visual_index, answers: int) -> np.ndarray:
  """`seen_tokens` of every answer."""
  return np.repeat(seen_tokens(model, prompts, visual_index), answers, axis=0)


def seen_tokens(
  model: VideoLM, prompts: Sequence[Integers], visual_index: Sequence[Integers] | None = None
) -> np.ndarray:
  """The text tokens of each prompt, bool [B V]."""
  seen = np.zeros((len(prompts), model.vocab), bool)
  for number, prompt in enumerate(prompts):
    ids = np.asarray(prompt)
    if visual_index is not None:
      ids = ids[np.asarray(visual_index[number])[: len(ids)] == TEXT]
    seen[number, ids] = True
  return seen


def read_chunk(ids, logprobs, state, start: float) -> tuple[TokenChunk, bool]:
  """Waits for a chunk and copies it to the host.

  Returns the chunk, and whether any row continues.
  """
  ids, logprobs, stopped, count, limit = jax.device_get(
    (ids, logprobs, state.stopped, state.count, state.limit)
  )
  rows = []
  row_logprobs = []
  for row_ids, values in zip(ids, logprobs, strict=True):
    is_given = row_ids != decoding.NOTHING
    rows.append(row_ids[is_given].tolist())
    row_logprobs.append(values[is_given].tolist())
  active = bool((~stopped & (count < limit)).any())
  seconds = time.perf_counter() - start
  return TokenChunk(rows, row_logprobs, stopped.tolist(), seconds), active


def prefilled(model: VideoLM, params: Mapping, padded: PaddedPrompts, table, spare: int):
  """Runs the prefill of padded prompts and waits for it.

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
  keep = np.ascontiguousarray(kept.T)[:, :, None]
  return keep, tuple(room)


def prefill(
  model, params, tokens, lengths, table, visual_index, keep, *, room: tuple[int, ...], spare: int
):
  """Prefills the KV cache with right-padded prompts [B L].

  Returns the logits of the next token [B V] and the cache.
  """
  chunk = CHUNK_ON_GPU if jax.default_backend() == "gpu" else CHUNK
  last, cache = model.apply(
    {"params": params},
    tokens,
    lengths,
    table,
    visual_index,
    keep,
    room,
    spare,
    chunk,
    method="prefill",
  )
  return _next_logits(model, params, last[:, None]), cache


def _next_logits(model: VideoLM, params, hidden):
  """Hidden states [B 1 D] -> logits [B V]."""
  result = model.apply({"params": params}, hidden, method="logits")
  logits = cast(Array, result)  # apply returns a pair only if some collection is mutable.
  return logits[:, 0]


PREFILL = CountedProgram("prefill", prefill, static_argnums=0, static_argnames=("room", "spare"))


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
  """Lists of integers -> int32 [B length], padded on the right."""
  padded = np.full((len(rows), length), value, np.int32)
  for padded_row, row in zip(padded, rows, strict=True):
    padded_row[: len(row)] = row
  return padded


def context_length(model: VideoLM) -> int:
  """The llm's context length in positions, including YaRN."""
  yarn = model.llm.yarn
  factor = 1 if yarn is None else yarn[0]
  return int(factor * unstretched_positions(model))


def unstretched_positions(model: VideoLM) -> int:
  """The llm's context length without YaRN, which a factor of YaRN multiplies."""
  llm = model.llm
  return llm.positions if llm.yarn is None else llm.yarn[1]


def check_prompts(model: VideoLM, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
  """Raises ValueError for prompts that the model cannot read.

  They are empty, beyond the context, or have tokens that the model lacks.
  """
  if not prompts or not min(map(len, prompts)):
    raise ValueError("generate() needs at least one prompt, and one token in every prompt.")
  for prompt in prompts:
    for token in (min(prompt), max(prompt)):
      if not 0 <= token < model.vocab:
        raise ValueError(
          f"A prompt has the token {token}, but the ids of this model are 0 to {model.vocab - 1}. "
          "Write prompts with the tokenizer of the checkpoint."
        )
  longest = max(map(len, prompts))
  if longest + max_new_tokens > context_length(model):
    raise ValueError(
      f"A prompt of {longest} tokens and max_new_tokens={max_new_tokens} exceed the context of "
      f"{context_length(model)}. Shorten the question, lower the number of frames "
      "(config.infer.sampling.frames) or max_new_tokens, or set "
      f"config.model.llm.yarn=(factor, {unstretched_positions(model)})."
    )
