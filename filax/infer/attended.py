# SPDX-License-Identifier: Apache-2.0
"""Which frames a text looks at: attention from its tokens to groups of frames."""

from collections.abc import Sequence
import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.sample import Turn
from filax.infer.compiled import CountedProgram, bucket
from filax.infer.encoded_media import EncodedMedia
from filax.infer.generate import pad
from filax.infer.loaded import LoadedModel
from filax.models.video_lm import VideoLM
from filax.spec import TEXT

QUERIES = (1, 8, 32)  # Buckets of tokens that look; of a longer answer, 32 are taken.
NO_QUERY = -1


@dataclasses.dataclass(frozen=True, eq=False)
class GroupAttention:
  """Shares of attention, layer by layer; the rest goes to the text."""

  visual: np.ndarray  # float32 [layers]: on all visual tokens.
  groups: np.ndarray  # float32 [layers G]: on each group of frames.


def group_attention(
  loaded: LoadedModel, media: EncodedMedia, turns: Sequence[Turn], answer: str = ""
) -> GroupAttention:
  """Attention to the groups of a video.

  Mean over heads and the tokens that look: those whose outputs choose the answer's tokens, which
  are the last of the prompt and all but the last of the answer. Without an answer it is the last of
  the prompt alone. Visual dropout is off, so that every layer sees every group.
  """
  processor = loaded.processor
  prompt, _ = processor.encode_prompt(turns, [media])
  tokens, index = processor.encode_prompt(turns, [media], answer)
  length = bucket(len(tokens), processor.lengths, "config.infer.lengths")
  with loaded.on_mesh():
    weights = ATTENTION(
      f"1 x {length}",
      loaded.model,
      loaded.params,
      pad([tokens], length, 0),
      media.table[None],
      pad([index], length, TEXT),
      _looking_places(len(prompt), len(tokens))[None],
    )
  weights = np.asarray(weights)[:, 0, : len(tokens)]
  group_count = len(media.groups)
  tokens_per_group = loaded.model.layout().tokens_per_group
  in_group = (index >= 0) & (index < tokens_per_group * group_count)  # Excludes the newline.
  groups = np.zeros((len(weights), group_count), np.float32)
  group_of_token = index[in_group] // tokens_per_group
  np.add.at(groups.T, group_of_token, weights[:, in_group].T)
  return GroupAttention(weights[:, index >= 0].sum(1), groups)


def _looking_places(prompt: int, whole: int) -> np.ndarray:
  """The places that look: int32 [Q], padded with NO_QUERY."""
  count = max(1, whole - prompt)
  first = prompt - 1
  size = bucket(min(count, QUERIES[-1]), QUERIES, "QUERIES")
  places = np.full(size, NO_QUERY, np.int32)
  chosen = np.linspace(first, first + count - 1, min(count, size))
  places[: len(chosen)] = chosen.round()
  return places


def attention_from(model: VideoLM, params, tokens, table, index, queries) -> jax.Array:
  """VideoLM.attention_from as a function: [layers B L]."""
  arguments = (jnp.asarray(tokens), table, jnp.asarray(index), jnp.asarray(queries))
  result = model.apply({"params": params}, *arguments, method="attention_from")
  return cast(jax.Array, result)  # apply returns a pair only if some collection is mutable.


ATTENTION = CountedProgram("attention", attention_from, static_argnums=0)
