# SPDX-License-Identifier: Apache-2.0
"""How much the last token of a prompt attends to each group of frames, layer by layer.

VideoChat-Flash (arXiv:2501.00574), Fig. 8.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from filax.studies.figure import figure_of


def attention(model, params, video: str, question: str) -> dict[str, Any]:
  """The attention of the last prompt token, mean over heads, of every layer: `visual`, its share
  on visual tokens; `groups`, that on each group of frames at `times`."""
  from data_pipelines.text import templates
  from filax.infer.chat import Conversation

  talk = Conversation(model, params, video)
  tokens, index = talk.processor.prompt(templates.question(question), [talk.seen])
  weights = np.asarray(
    jax.jit(_last_attention, static_argnums=0)(
      model, params, jnp.asarray([tokens]), talk.seen.table[None], jnp.asarray(index)[None]
    )
  )[:, 0]
  per_group = model.layout().tokens_per_group
  real = (index >= 0) & (index < per_group * len(talk.times))
  groups = np.zeros((len(weights), len(talk.times)))
  np.add.at(groups, (slice(None), index[real] // per_group), weights[:, real])
  return dict(
    video=video,
    question=question,
    times=talk.times,
    visual=weights[:, index >= 0].sum(1).tolist(),
    groups=groups.tolist(),
  )


def _last_attention(model, params, tokens, table, index):
  """[layers B L]"""
  return model.apply({"params": params}, tokens, table, index, method="last_attention")


def draw(report: dict[str, Any], path: str) -> None:
  """Layers by groups, beside the share of all visual tokens."""
  figure, (left, right) = figure_of(2)
  shown = np.asarray(report["groups"])
  left.imshow(shown / np.maximum(shown.max(1, keepdims=True), 1e-30), aspect="auto")
  left.set(xlabel="group of frames", ylabel="layer", title="attention, of the layer's most")
  right.plot(report["visual"], marker="o")
  right.set(xlabel="layer", ylabel="share on visual tokens", ylim=(0, 1))
  figure.savefig(path)
