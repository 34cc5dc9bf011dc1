# SPDX-License-Identifier: Apache-2.0
"""Whether the visual tokens of a video fit the context of a model."""

from data_pipelines.packing import visual_order
from data_pipelines.packing.frame_sampling import Extent
from filax.infer.generate import context_length, unstretched_positions
from filax.infer.loaded import LoadedModel
from filax.infer.video import count_frames, frame_unit
from filax.models.video_lm import VideoLM

TEXT_ROOM = 256  # Positions left to the words of a prompt, in the number of frames that fit.


def prompt_positions(model: VideoLM, frames: int) -> int:
  """Positions that `frames` frames of a video take in a prompt."""
  groups = model.selector.groups(frames)
  return len(visual_order.video_order(groups, model.layout()))


def tokens_per_frame(model: VideoLM) -> float:
  """Visual tokens per frame that the llm is shown."""
  layout = model.layout()
  return layout.tokens_per_group / layout.frames_per_group


def check_frames(model: VideoLM, frames: int, max_new_tokens: int) -> None:
  """Raises ValueError with the number that fits if `frames` frames do not."""
  tokens = prompt_positions(model, frames)
  context = context_length(model)
  if tokens + max_new_tokens < context:
    return
  factor = -(-(tokens + max_new_tokens + TEXT_ROOM) // unstretched_positions(model))
  raise ValueError(
    f"{frames} frames are {tokens} visual tokens, and the checkpoint reads {context} positions; "
    f"{_fitting_frames(model, frames, max_new_tokens)} Or set --yarn {factor}, which extends the "
    "context."
  )


def check_sampling(loaded: LoadedModel, max_new_tokens: int) -> None:
  """Raises ValueError if not even the shortest video fits the context.

  Of a sampler that takes more frames of longer videos, these are its fewest.
  """
  shortest = Extent(duration=0.0, last=0.0, frames=1)
  fewest = count_frames(loaded.processor.sampling, shortest, frame_unit(loaded.model))
  check_frames(loaded.model, fewest, max_new_tokens)


def _fitting_frames(model: VideoLM, frames: int, max_new_tokens: int) -> str:
  """How many frames fit, in a sentence."""
  if model.selector.needs_single:
    return "lower config.infer.selector.scenes."
  unit = frame_unit(model)
  room = context_length(model) - max_new_tokens - TEXT_ROOM
  units = frames // unit
  while units > 0 and prompt_positions(model, units * unit) > room:
    units -= 1
  if not units:
    return "not even the smallest number of frames fits."
  return f"at most {units * unit} frames fit: set --frames {units * unit}."
