# SPDX-License-Identifier: Apache-2.0
"""Whether a model can answer as config.infer says, before it is trained."""

from collections.abc import Mapping
from typing import Any

from data_pipelines.packing.frame_sampling import Extent
from filax.checkpoint.tree import flatten_tree
from filax.infer.video import count_frames, frame_unit
from filax.models.components import build_video_lm, parameter_shapes
from filax.models.video_lm import VideoLM

_MINUTE = Extent(duration=60.0, last=59.0, frames=60)


def check_infer(config: Mapping[str, Any]) -> None:
  """Raises ValueError if config.infer does not suit config.model.

  The checkpoints of a run keep its config.infer: no session could load them.
  """
  infer = config["infer"]
  answering = build_video_lm(config["model"], infer["selector"])
  _check_parameters(build_video_lm(config["model"]), answering)
  frames = count_frames(infer["sampling"], _MINUTE, frame_unit(answering))
  answering.selector.groups(frames)


def _check_parameters(trained: VideoLM, answering: VideoLM) -> None:
  """Raises ValueError if the selector of answers changes a parameter."""
  shapes = flatten_tree(parameter_shapes(answering))
  for path, leaf in flatten_tree(parameter_shapes(trained)).items():
    if path not in shapes or shapes[path].shape != leaf.shape:
      other = shapes[path].shape if path in shapes else "missing"
      raise ValueError(
        f"config.infer.selector does not suit the model: {path} is {leaf.shape} in training, and "
        f"{other} in answers. Set config.infer.selector.size to {trained.selector.size}, as in "
        "config.model.selector."
      )
