# SPDX-License-Identifier: Apache-2.0
"""From a sample to everything that is known of its part of a row before a pixel is read."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from data_pipelines.media.probe import Probe
from data_pipelines.packing import frame_sampling, visual_order
from data_pipelines.packing import tiles as images
from data_pipelines.packing.tiles import Views
from data_pipelines.sample import Sample, Timeline
from data_pipelines.text import templates
from data_pipelines.text.templates import Encoded, Visual
from data_pipelines.text.tokenizers import Tokenizer
from filax.spec import VisualLayout, dropout_stages


@dataclasses.dataclass(frozen=True)
class Shown:
  """A timeline as it will be shown: the order of its visual tokens and what they are made of.

  A video has `times` (seconds, f64 [T]) and the `source` to read them from, a picture `views`.
  """

  timeline: Timeline
  pattern: np.ndarray
  visual: Visual
  times: np.ndarray | None = None
  views: Views | None = None
  source: Timeline = ()

  @property
  def frames(self) -> int:
    return 0 if self.times is None else len(self.times)

  @property
  def images(self) -> int:
    return 0 if self.views is None else self.views.count


@dataclasses.dataclass(frozen=True)
class Composer:
  """Turns samples into tokens and visual patterns under config.data, a model's layout and a seed.

  Everything is a function of sample, its number, the epoch, and the index (`probes`).
  """

  data: Mapping
  layout: VisualLayout
  tokenizer: Tokenizer
  probes: Mapping[str, Probe]
  seed: int

  @property
  def vary(self) -> bool:
    """Whether lengths change from epoch to epoch: if the text tells times that are drawn anew."""
    return (
      self.data["time_prompt"] != "none"
      and self.data["template"] != "plain"
      and self.data["sampling"]["phase"] == "random"
    )

  def shown(self, sample: Sample, number: int, epoch: int) -> tuple[Shown, ...]:
    """The sample's timelines, in order."""
    drawn = self.data["sampling"]["phase"] == "random"
    phase = frame_sampling.random_phase(self.seed, epoch, number) if drawn else 0.5
    alone = len(sample.media) == 1
    return tuple(
      self._image(timeline, alone) if is_image(timeline) else self._video(timeline, phase)
      for timeline in sample.media
    )

  def encode(self, sample: Sample, shown: Sequence[Shown]) -> Encoded:
    """The sample's tokens and labels."""
    data = self.data
    return templates.encode(
      sample,
      self.tokenizer,
      template=data["template"],
      system=data["system"],
      labels=data["labels"],
      time_prompt=data["time_prompt"],
      visuals=[s.visual for s in shown],
    )

  @property
  def columns(self) -> int:
    """How many figures `size` gives."""
    stages = len(self.layout.stages)
    return 3 + stages + 1 if stages else 3

  def size(self, sample: Sample, number: int, epoch: int) -> tuple[int, ...]:
    """What the sample takes of a row: tokens, frames, images; with visual dropout also the tokens
    left after every stage, and the query positions."""
    shown = self.shown(sample, number, epoch)
    text = [dataclasses.replace(s, visual=dataclasses.replace(s.visual, tokens=1)) for s in shown]
    encoded, visual = self.encode(sample, text), sum(s.visual.tokens for s in shown)
    words = len(encoded.tokens) - len(shown)
    size = (words + visual, sum(s.frames for s in shown), sum(s.images for s in shown))
    if not self.layout.stages:
      return size
    queries, kept = self.dropped(encoded, visual)
    return *size, *(words + int(count) for count in kept), len(queries)

  def dropped(self, encoded: Encoded, visual: int) -> tuple[np.ndarray, np.ndarray]:
    """(query positions [n], counts kept after every stage [stages]) of a sample with `visual`
    visual tokens."""
    queries = dropout_stages.queries(encoded.labels, encoded.answers, self.layout.queries)
    return queries, dropout_stages.kept([visual], self.layout.stages, [len(queries) > 0])[:, 0]

  def _video(self, timeline: Timeline, phase: float) -> Shown:
    extent = frame_sampling.extent(timeline, self.probes, self.data["sampling"])
    group = self.layout.frames_per_group
    count = frame_sampling.frame_count(self.data["sampling"], extent, group)
    times = frame_sampling.sample_times(self.data["sampling"], count, extent, phase)
    pattern = visual_order.video(count // group, self.layout)
    visual = Visual(len(pattern), extent.duration, times, templates.group_times(times, group))
    source = frame_sampling.readable(timeline, self.data["sampling"])
    return Shown(timeline, pattern, visual, times=times, source=source)

  def _image(self, timeline: Timeline, alone: bool) -> Shown:
    probe = self.probes[timeline[0].media]
    width, height = max(1, probe.width), max(1, probe.height)  # 0 where it could never be read.
    views = images.views(width, height, self.data["images"], self.layout.size, alone)
    pattern = visual_order.image(views, self.layout)
    return Shown(timeline, pattern, Visual(len(pattern)), views=views)


def is_image(timeline: Timeline) -> bool:
  """Whether a timeline is a still of its own, for the image lane."""
  return len(timeline) == 1 and timeline[0].kind == "image"
