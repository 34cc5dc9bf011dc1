# SPDX-License-Identifier: Apache-2.0
"""Attention from the last prompt token to groups of frames.

It is measured layer by layer, as in Fig. 8 of VideoChat-Flash (arXiv:2501.00574).
"""

from typing import Any

import numpy as np

from data_pipelines.text import templates
from filax.infer.attended import group_attention
from filax.infer.chat import Conversation
from filax.infer.loaded import LoadedModel
from filax.studies.figure import figure_of


def attention_map(loaded: LoadedModel, video: str, question: str) -> dict[str, Any]:
  """Attention of the last prompt token in every layer, mean over heads.

  `visual` is the share on visual tokens, `groups` the share on each group of frames at `times`.
  """
  talk = Conversation(loaded, video)
  _, media = talk.video_and_media()
  turns = templates.question(question)
  attention = group_attention(loaded, media, turns)
  return dict(
    video=video,
    question=question,
    times=talk.times,
    visual=attention.visual.tolist(),
    groups=attention.groups.tolist(),
  )


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
