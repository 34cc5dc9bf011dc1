# SPDX-License-Identifier: Apache-2.0
"""Attention from the last prompt token to groups of frames.

By layer, as in VideoChat-Flash (arXiv:2501.00574), Fig. 8.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.text import templates
from filax.infer.chat import Conversation
from filax.infer.loaded import LoadedModel
from filax.models.video_lm import VideoLM
from filax.studies.figure import figure_of


def attention_map(loaded: LoadedModel, video: str, question: str) -> dict[str, Any]:
  """Attention of the last prompt token in every layer, mean over heads.

  `visual` is the share on visual tokens, `groups` the share on each group of frames at `times`.
  """
  talk = Conversation(loaded, video)
  _, media = talk.video_and_media()
  turns = templates.question(question)
  tokens, index = loaded.processor.encode_prompt(turns, [media])
  weights = _attention_weights(loaded, tokens, media.table, index)
  tokens_per_group = loaded.model.layout().tokens_per_group
  is_visual = index >= 0
  in_group = is_visual & (index < tokens_per_group * len(talk.times))  # Excludes the newline.
  groups = np.zeros((len(weights), len(talk.times)))
  group_of_token = index[in_group] // tokens_per_group
  np.add.at(groups.T, group_of_token, weights[:, in_group].T)
  return dict(
    video=video,
    question=question,
    times=talk.times,
    visual=weights[:, is_visual].sum(1).tolist(),
    groups=groups.tolist(),
  )


def _attention_weights(
  loaded: LoadedModel, tokens: list[int], table: jax.Array, index: np.ndarray
) -> np.ndarray:
  """Attention from the last of L tokens to all tokens: [layers L]."""
  program = jax.jit(_last_attention, static_argnums=0)
  weights = program(
    loaded.model,
    loaded.params,
    jnp.asarray([tokens]),
    table[None],
    jnp.asarray(index)[None],
  )
  return np.asarray(weights)[:, 0]


def _last_attention(model: VideoLM, params, tokens, table, index):
  """Attention weights of the last token: [layers B L]."""
  return model.apply({"params": params}, tokens, table, index, method="last_attention")


def draw_attention(report: dict[str, Any], path: str) -> None:
  """Draws layers by groups, beside the share of all visual tokens."""
  figure, (map_axes, share_axes) = figure_of(2)
  groups = np.asarray(report["groups"])
  highest = np.maximum(groups.max(1, keepdims=True), 1e-30)
  map_axes.imshow(groups / highest, aspect="auto")
  map_axes.set(xlabel="group of frames", ylabel="layer", title="attention, of the layer's most")
  share_axes.plot(report["visual"], marker="o")
  share_axes.set(xlabel="layer", ylabel="share on visual tokens", ylim=(0, 1))
  figure.savefig(path)
