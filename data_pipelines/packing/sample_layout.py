# SPDX-License-Identifier: Apache-2.0
"""Plans one sample before it is decoded: frame times, tiles, tokens, labels."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from data_pipelines.media.probe import Probe
from data_pipelines.packing import frame_sampling, position_gaps, tiles, visual_order
from data_pipelines.packing.demand import SampleDemand
from data_pipelines.packing.tiles import Views
from data_pipelines.sample import Sample, Timeline
from data_pipelines.text import templates
from data_pipelines.text.chat_template import UnwritableConversation
from data_pipelines.text.templates import Encoded, VisualText
from data_pipelines.text.tokenizers import Tokenizer
from filax.spec import VisualLayout, dropout_stages

_MIDDLE = 0.5  # The phase of a frame in the middle of its interval of time.
_RECENT = 64  # The number of layouts that are remembered.


@dataclasses.dataclass(frozen=True)
class TimelineLayout:
  """The pictures of a timeline, and the order of their visual tokens.

  pattern: the order of the tokens, as in `visual_order`. A video has `times`, the seconds of its
  frames, f64 [T], and `source`, the timeline to decode them from. A picture has `views` and no
  times (T = 0).
  """

  timeline: Timeline
  pattern: np.ndarray
  visual: VisualText
  times: np.ndarray
  views: Views | None = None
  source: Timeline = ()

  @property
  def frames(self) -> int:
    """The number of frame slots that the timeline takes."""
    return len(self.times)

  @property
  def images(self) -> int:
    """The number of image slots that the timeline takes."""
    return 0 if self.views is None else self.views.count


@dataclasses.dataclass(frozen=True)
class Composer:
  """Turns samples into tokens, and into the order of their visual tokens.

  The fields are the same for a whole run: config.data, the visual layout of the model, the media
  index (`probes`) and the seed. Apart from them, a result depends only on the sample, its number
  and the epoch.
  """

  data: Mapping[str, Any]
  layout: VisualLayout
  tokenizer: Tokenizer
  probes: Mapping[str, Probe]
  seed: int
  # Layouts of the last timelines: neighbouring samples often show the same video.
  recent: dict[Timeline, TimelineLayout] = dataclasses.field(
    default_factory=dict, compare=False, repr=False
  )

  @property
  def vary(self) -> bool:
    """Whether lengths differ between epochs.

    They do if the text names times that are drawn anew in every epoch.
    """
    if self.data["time_prompt"] == "none" or self.data["template"] == "plain":
      return False
    return self._random_phase

  @property
  def _random_phase(self) -> bool:
    return self.data["sampling"]["phase"] == "random"

  @property
  def stages(self) -> int:
    """Stages of visual dropout."""
    return len(self.layout.stages)

  def timeline_layouts(
    self,
    sample: Sample,
    number: int,
    epoch: int,
  ) -> tuple[TimelineLayout, ...]:
    """The layouts of the sample's timelines, in order."""
    phase = _MIDDLE
    if self._random_phase:
      phase = frame_sampling.random_phase(self.seed, epoch, number)
    alone = len(sample.media) == 1
    layouts = []
    for timeline in sample.media:
      if is_image(timeline):
        layouts.append(self._image_layout(timeline, alone))
      elif self._random_phase:
        layouts.append(self._video_layout(timeline, phase))
      else:
        layouts.append(self._recent_layout(timeline))
    return tuple(layouts)

  def _recent_layout(self, timeline: Timeline) -> TimelineLayout:
    """The layout of a video without random times."""
    layout = self.recent.get(timeline)
    if layout is None:
      layout = self._video_layout(timeline, _MIDDLE)
      if len(self.recent) >= _RECENT:
        self.recent.clear()
      self.recent[timeline] = layout
    return layout

  def encode_text(self, sample: Sample, layouts: Sequence[TimelineLayout]) -> Encoded:
    """The sample's tokens and labels."""
    visuals = [layout.visual for layout in layouts]
    return self._encode(sample, visuals)

  def writing_error(self, sample: Sample, number: int) -> str:
    """Why the chat template cannot write a sample; "" if it can."""
    layouts = self.timeline_layouts(sample, number, 0)
    try:
      self.encode_text(sample, layouts)
    except UnwritableConversation as error:
      return str(error)
    return ""

  def _encode(self, sample: Sample, visuals: Sequence[VisualText]) -> Encoded:
    return templates.encode_conversation(
      sample,
      self.tokenizer,
      template=self.data["template"],
      system=self.data["system"],
      labels=self.data["labels"],
      time_prompt=self.data["time_prompt"],
      visuals=visuals,
    )

  def demands(self, samples: Iterable[Sample], first: int, epoch: int) -> list[SampleDemand]:
    """The capacity of a row that each sample takes.

    first: the number of the first sample; the others follow it.
    """
    samples = list(samples)
    layouts_of_samples = []
    for number, sample in enumerate(samples, first):
      layouts_of_samples.append(self.timeline_layouts(sample, number, epoch))
    if self.layout.stages:
      return list(map(self._demand_after_dropout, samples, layouts_of_samples))
    visuals_of_samples = []
    for layouts in layouts_of_samples:
      visuals_of_samples.append([layout.visual for layout in layouts])
    counts = templates.count_tokens(
      zip(samples, visuals_of_samples, strict=True),
      self.tokenizer,
      template=self.data["template"],
      system=self.data["system"],
      time_prompt=self.data["time_prompt"],
    )
    demands = []
    for tokens, layouts in zip(counts, layouts_of_samples, strict=True):
      frames, images = _slots(layouts)
      demands.append(SampleDemand(tokens, frames, images))
    return demands

  def _demand_after_dropout(
    self, sample: Sample, layouts: Sequence[TimelineLayout]
  ) -> SampleDemand:
    visual = sum(layout.visual.tokens for layout in layouts)
    # Only the text matters here. It is encoded faster with one visual token per timeline.
    short = [dataclasses.replace(layout.visual, tokens=1) for layout in layouts]
    frames, images = _slots(layouts)
    try:
      encoded = self._encode(sample, short)
    except UnwritableConversation:
      return SampleDemand(templates.UNWRITABLE, frames, images, np.zeros(self.stages, np.int64))
    text = len(encoded.tokens) - len(layouts)
    queries, kept = self.dropout(encoded, visual)
    return SampleDemand(
      tokens=text + visual,
      frames=frames,
      images=images,
      tokens_after=text + kept,
      queries=len(queries),
    )

  def dropout(self, encoded: Encoded, visual: int) -> tuple[np.ndarray, np.ndarray]:
    """Visual dropout of a sample with `visual` visual tokens.

    Returns its query positions i32 [queries] and the visual tokens kept after every stage [stages].
    """
    layout = self.layout
    queries = dropout_stages.queries(encoded.labels, encoded.answers, layout.queries)
    has_queries = len(queries) > 0
    kept = dropout_stages.kept([visual], layout.stages, [has_queries])
    return queries, kept[:, 0]

  def positions(
    self,
    encoded: Encoded,
    layouts: Sequence[TimelineLayout],
    number: int,
    epoch: int,
  ) -> np.ndarray:
    """The RoPE positions i32 [L] of a sample, with config.data.position_gaps."""
    length = len(encoded.tokens)
    limit = self.data.get("position_gaps", 0)
    if limit <= length:
      return np.arange(length, dtype=np.int32)
    patterns = [layout.pattern for layout in layouts]
    units = [self._unit(layout) for layout in layouts]
    borders = position_gaps.visual_borders(encoded.spans, patterns, units)
    rng = position_gaps.gap_generator(self.seed, epoch, number)
    return position_gaps.gapped_positions(length, borders, limit, rng)

  def _unit(self, layout: TimelineLayout) -> int:
    """The tokens of a group of frames, or of a picture."""
    if layout.views is None:
      return self.layout.tokens_per_group
    return layout.images * self.layout.tokens_per_image

  def _video_layout(self, timeline: Timeline, phase: float) -> TimelineLayout:
    sampling = self.data["sampling"]
    group = self.layout.frames_per_group
    extent = frame_sampling.extent(timeline, self.probes, sampling)
    count = frame_sampling.frame_count(sampling, extent, self.layout.frames_per_unit)
    times = frame_sampling.sample_times(sampling, count, extent, phase)
    pattern = visual_order.video_order(count // group, self.layout)
    visual = VisualText(
      tokens=len(pattern),
      duration=extent.duration,
      times=times,
      group_times=templates.group_times(times, group),
    )
    return TimelineLayout(
      timeline,
      pattern,
      visual,
      times=times,
      source=frame_sampling.readable(timeline, sampling),
    )

  def _image_layout(self, timeline: Timeline, alone: bool) -> TimelineLayout:
    probe = self.probes[timeline[0].media]
    width = max(1, probe.width)  # 0 for an unreadable picture.
    height = max(1, probe.height)
    views = tiles.views(
      width,
      height,
      self.data["images"],
      self.layout.size,
      alone,
    )
    pattern = visual_order.image(views, self.layout)
    visual = VisualText(len(pattern))
    no_times = np.zeros(0)
    return TimelineLayout(timeline, pattern, visual, no_times, views=views)


def _slots(layouts: Sequence[TimelineLayout]) -> tuple[int, int]:
  """(frame slots, image slots) of a sample."""
  frames = 0
  images = 0
  for layout in layouts:
    frames += layout.frames
    images += layout.images
  return frames, images


def is_image(timeline: Timeline) -> bool:
  """Whether a timeline is a single still picture, for the image lane."""
  return len(timeline) == 1 and timeline[0].kind == "image"
