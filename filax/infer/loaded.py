# SPDX-License-Identifier: Apache-2.0
"""A model with its parameters and processor."""

import contextlib
import dataclasses
import math
import os
from typing import Any, Self

import jax
from jaxtyping import PyTree

from data_pipelines.packing.frame_sampling import Extent
from data_pipelines.sample import Timeline
from filax.infer import video as video_lib
from filax.infer.processor import Processor
from filax.infer.video import DecodedVideo
from filax.models import components
from filax.models.video_lm import VideoLM
from filax.parallel.mesh import on_mesh


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LoadedModel:
  """A model with its parameters and processor, ready for inference."""

  model: VideoLM
  params: PyTree
  processor: Processor

  def __repr__(self) -> str:
    """One line, for which no parameters are copied from the devices."""
    parts = ", ".join(type(getattr(self.model, role)).__name__ for role in components.ROLES)
    size = sum(leaf.size for leaf in jax.tree.leaves(self.params))
    return f"<{type(self).__name__} of {self.processor.step}: {parts}; {size:,} parameters>"

  def read_video(self, media: str | os.PathLike[str] | Timeline) -> DecodedVideo:
    """Decodes the candidate frames of a video under config.infer.sampling."""
    if not isinstance(media, tuple):
      media = video_lib.timeline_of(media)
    extent, count = self.extent_and_count(media)
    return self.read_extent(media, extent, count)

  def extent_and_count(self, timeline: Timeline) -> tuple[Extent, int]:
    """(length of a timeline, number of its frames) under config.infer.sampling."""
    processor = self.processor
    extent = video_lib.timeline_extent(timeline, processor.limits, processor.sampling)
    unit = video_lib.frame_unit(self.model)
    return extent, video_lib.count_frames(processor.sampling, extent, unit)

  def read_extent(self, timeline: Timeline, extent: Extent, count: int) -> DecodedVideo:
    """Decodes `count` frames of a timeline whose extent is known."""
    processor = self.processor
    return video_lib.decode_extent(
      timeline,
      extent,
      count,
      processor.sampling,
      self.model.encoder.size,
      processor.limits,
      processor.resize,
    )

  def on_mesh(self) -> contextlib.AbstractContextManager:
    """The context in which programs run: the mesh of the parameters."""
    return on_mesh(self.processor.mesh)

  def with_selector(self, name: str) -> Self:
    """A copy with another selector and the same number of visual tokens.

    uniform and clips then read only the frames that they show. Choosing selectors keep the number
    of candidates of config.infer.sampling if it exceeds the frames shown; otherwise they take four
    times the frames shown. Raises ValueError for an unknown name.
    """
    model = self.model
    if self.processor.infer["selector"]["name"] == name:
      return self
    frames = self.processor.sampling["frames"]
    size = model.selector.size
    groups = model.selector.groups(frames)
    frames_shown = groups * size
    config = dict(name=name, size=size)
    _, selector_class = components.component("selector", name)
    if selector_class.chooses_scenes:
      config["scenes"] = groups
    selector = components.build("selector", config)
    if not selector.needs_single:
      frames = frames_shown
    elif frames <= frames_shown:
      frames = 4 * frames_shown
    sampling = dict(self.processor.sampling) | dict(frames=frames)
    processor = self.processor.with_infer(sampling=sampling, selector=config)
    model = model.clone(selector=selector)
    return dataclasses.replace(self, model=model, processor=processor)

  def adjusted(
    self, *, frames: int | None = None, yarn: float | None = None, dropout: str = ""
  ) -> Self:
    """A copy with other inference settings.

    `frames`: maximum frames of a video. `yarn`: the factor by which YaRN extends the context.
    `dropout`: visual dropout (a preset of filax.spec.dropout_stages, "off", or
    "layer:kind:ratio,..."). Raises ValueError for an invalid setting.
    """
    processor = self.processor
    llm = self.model.llm
    if frames is not None:
      processor = _with_frames(processor, frames)
    if yarn is not None:
      llm = llm.clone(yarn=_yarn_setting(yarn, llm))
    if dropout:
      llm = llm.clone(dropout=dropout)
      _ = llm.stages  # Raises ValueError for invalid stages.
    model = self.model.clone(llm=llm)
    return dataclasses.replace(self, model=model, processor=processor)


def _with_frames(processor: Processor, frames: int) -> Processor:
  if frames < 1:
    raise ValueError(f"--frames={frames} shows nothing. Set it to 1 or more.")
  sampling = dict(processor.sampling) | dict(frames=frames)
  return processor.with_infer(sampling=sampling)


def _yarn_setting(factor: float, llm: Any) -> tuple[Any, ...] | None:
  """config.model.llm.yarn for a factor; None for plain positions.

  A factor of 1 switches off the YaRN of a released llm, whose `positions` may be stretched already.
  """
  if not 1 <= factor < math.inf:  # Also rejects NaN.
    raise ValueError(f"--yarn={factor} is not a factor of the context. Set it to 1 or more.")
  if llm.yarn is None:
    return (factor, llm.positions) if factor > 1 else None
  _, trained, *options = llm.yarn
  kept = [pair for pair in dict(*options).items() if pair[0] != "attention_factor"]
  return (factor, trained, tuple(kept)) if kept else (factor, trained)
