# SPDX-License-Identifier: Apache-2.0
"""Encodes the media of a request, and prepares its prompt for the device."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.sample import Turn
from filax.infer import encode, encode_long
from filax.infer.answer_settings import check_answer_settings
from filax.infer.compiled import bucket
from filax.infer.encoded_media import EncodedMedia, joined_table
from filax.infer.generate import context_length, pad_prompts, seen_tokens
from filax.infer.lengths import ladder
from filax.infer.loaded import LoadedModel
from filax.serve.feature_cache import FeatureCache
from filax.serve.jobs import AnswerJob
from filax.serve.lanes import LaneShape, PreparedPrompt
from filax.serve.limits import ServingLimits
from filax.serve.media_reading import ReadPicture, ReadVideo
from filax.serve.prompts import conversation_turns
from filax.serve.requests import AnswerSettings, RequestError

NEW = (16, 64, 256, 1024, 4096, 16_384, 65_536)  # Buckets of new tokens, N.
_SLICE = 4096  # Letters that are counted at a time.
_SLACK = 16  # Tokens by which a cut may lengthen a text.
_FINE = 4096  # Positions from which prompts and tables have four buckets an octave, not one.


def resolved_settings(
  loaded: LoadedModel, settings: AnswerSettings, limits: ServingLimits
) -> dict[str, Any]:
  """The settings of an answer, with those of the checkpoint.

  Raises RequestError for one out of range.
  """
  names = ("max_new_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")
  requested = {name: getattr(settings, name) for name in names}
  processor = loaded.processor.settings(top_k=0, min_p=0.0, repetition_penalty=1.0)
  resolved = {name: processor[name] for name in names}
  resolved |= {name: value for name, value in requested.items() if value is not None}
  try:
    check_answer_settings(**resolved)
  except ValueError as error:
    raise RequestError(str(error)) from error
  resolved["top_k"] = min(resolved["top_k"], loaded.model.vocab)
  if requested["max_new_tokens"] is None:
    resolved["max_new_tokens"] = min(resolved["max_new_tokens"], limits.answer_tokens)
  if resolved["max_new_tokens"] > limits.answer_tokens:
    raise RequestError(
      f"max_new_tokens={resolved['max_new_tokens']} is beyond the {limits.answer_tokens} tokens "
      "that this server gives (answer_tokens).",
      parameter="max_tokens",
    )
  if not 1 <= settings.answers <= min(limits.answers, limits.batch):
    raise RequestError(
      f"n={settings.answers} must lie in 1 to {min(limits.answers, limits.batch)} (answers).",
      parameter="n",
    )
  if "" in settings.stop_strings:
    raise RequestError("A stop string must not be empty.", parameter="stop")
  return resolved


def encode_medium(
  loaded: LoadedModel, read: ReadVideo | ReadPicture, cache: FeatureCache
) -> tuple[EncodedMedia, bool]:
  """(the visual tokens of a medium, whether they were encoded before)."""
  encoded = read.encoded or cache.cached_media(read.key)
  if encoded is not None:
    cache.keep(read.key, encoded)
    return encoded, True
  if isinstance(read, ReadPicture):
    if read.picture is None or read.views is None:
      raise RuntimeError("A picture was neither read nor encoded.")
    encoded = encode.encode_picture(loaded, read.picture, read.views)
  else:
    if read.video is None:
      raise RuntimeError("A video was neither read nor encoded.")
    encoded = encode_long.encode_decoded(loaded, read.video)
  jax.block_until_ready(encoded.table)
  cache.keep(read.key, encoded)
  return encoded, False


def prepare_prompt(job: AnswerJob) -> PreparedPrompt:
  """The padded prompt of a request whose media are encoded.

  Raises RequestError for a prompt beyond the model's context.
  """
  loaded = job.loaded
  settings = job.settings
  turns = conversation_turns(job.request.messages)
  try:
    tokens, index = loaded.processor.encode_prompt(turns, job.encoded)
    _check_context(loaded, len(tokens), settings["max_new_tokens"])
    visual_index = [index] if job.encoded else None
    padded = pad_prompts(loaded.model, [tokens], visual_index, _lengths(loaded))
  except RequestError:
    raise
  except ValueError as error:
    raise RequestError(str(error), code="context_length_exceeded", parameter="messages") from error
  job.prompt_tokens = len(tokens)
  penalised = settings["repetition_penalty"] != 1
  shape = LaneShape(
    variant=(job.request.selector, job.request.dropout),
    length=padded.tokens.shape[1],
    room=padded.room,
    new_tokens=bucket(settings["max_new_tokens"], NEW, "answer_tokens"),
    penalised=penalised,
  )
  return PreparedPrompt(
    padded=padded,
    table=_padded_table(job.encoded) if job.encoded else None,
    shape=shape,
    key=jax.random.key(job.request.settings.seed),
    limit=settings["max_new_tokens"],
    temperature=settings["temperature"],
    top_p=settings["top_p"],
    top_k=settings["top_k"],
    min_p=settings["min_p"],
    repetition_penalty=settings["repetition_penalty"],
    seen=seen_tokens(loaded.model, [tokens], visual_index) if penalised else None,
  )


def check_text_length(loaded: LoadedModel, turns: Sequence[Turn]) -> None:
  """Raises RequestError for text far beyond the model's context.

  The text is counted slice by slice, and not to its end, because the device would wait for a
  tokenizer that reads megabytes.
  """
  context = context_length(loaded.model)
  texts: list[str] = []
  for turn in turns:
    texts.extend(part for part in turn.parts if isinstance(part, str))
  if sum(map(len, texts)) <= context:
    return
  tokens = 0
  for text in texts:
    for first in range(0, len(text), _SLICE):
      count = len(loaded.processor.tokenizer.encode(text[first : first + _SLICE]))
      tokens += max(0, count - _SLACK)
      if tokens > context:
        raise _beyond_context(f"The messages have more than {context} tokens", context)


def _check_context(loaded: LoadedModel, tokens: int, new_tokens: int) -> None:
  """Raises RequestError for a prompt and an answer beyond the context."""
  context = context_length(loaded.model)
  if tokens + new_tokens > context:
    words = (
      f"A prompt of {tokens} tokens and max_tokens={new_tokens} are {tokens + new_tokens} positions"
    )
    raise _beyond_context(words, context)


def _beyond_context(words: str, context: int) -> RequestError:
  """The error of a prompt that begins with `words`."""
  return RequestError(
    f"{words}, and the model's context has {context} positions. Shorten the messages, or lower "
    "num_frames, fps or max_tokens.",
    code="context_length_exceeded",
    parameter="messages",
  )


def _lengths(loaded: LoadedModel) -> tuple[int, ...]:
  """The buckets of prompts.

  Fewer than those of `generate`, so that more requests share a lane.
  """
  return coarse_sizes(loaded.processor.lengths)


def coarse_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
  """One of the sizes for each power of two below 4096.

  All sizes from there on.
  """
  kept: list[int] = []
  for size in sorted(set(sizes), reverse=True):
    if not kept or size >= _FINE or 2 * size <= kept[-1]:
      kept.append(size)
  return tuple(reversed(kept))


def _padded_table(media: Sequence[EncodedMedia]) -> Float[Array, "1 M D"]:
  """The visual table of a prompt, padded to a bucket."""
  table = joined_table(media)
  rows = bucket(len(table), coarse_sizes(ladder(64, 1_048_576)), "the visual table")
  return jnp.pad(table, ((0, rows - len(table)), (0, 0)))[None]


def check_sees_media(loaded: LoadedModel, media: Sequence) -> None:
  """Raises RequestError for media of a model that sees none."""
  if media and "encoder" not in loaded.params:
    raise RequestError("This model is a language model alone, which sees no media.")
