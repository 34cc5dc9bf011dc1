# SPDX-License-Identifier: Apache-2.0
"""Creates the arrays of a planned row: decodes its frames, and writes its text.

If a file is damaged (MediaError), its sample is masked, and the shape of the row does not change.
Any other error comes from a wrong setting, or is a defect of this code. It ends the run, because
otherwise one sample after another would be masked.
"""

from collections.abc import Callable, Sequence
import dataclasses
import os

import numpy as np

from data_pipelines.manifest.quarantine import add_to_quarantine, blamed_medium
from data_pipelines.media import frames as video
from data_pipelines.media.open import GREY, LIMITS, Limits, MediaError, UnfitProcess
from data_pipelines.packing import tiles, visual_order
from data_pipelines.packing.planner import PlanRow
from data_pipelines.packing.sample_layout import Composer, TimelineLayout
from data_pipelines.sample import Sample
from data_pipelines.text.templates import Encoded
from filax.spec import RowShape, VisualLayout

Row = dict[str, np.ndarray]


class SampleError(ValueError):
  """A sample failed for a reason other than its files."""


@dataclasses.dataclass(frozen=True)
class Materialise:
  """A picklable function: PlanRow -> the arrays of `spec.BATCH` (without R).

  A sample with an unreadable medium stays in its place with loss_mask 0, and is counted in num_bad;
  its other media are written. The medium is added once to `quarantine`, a JSONL file. If the medium
  is readable, but the sample asks for a part beyond its end, the sample is added instead.

  read: video.read_frames, or the method of a FrameCache. blank: pictures are grey, and no file is
  opened. seq_slice (i, n): only the i-th of n parts of the frames is decoded, and the frame arrays
  hold only that part. A file that is damaged half way is then masked only in the parts that show
  the damage.

  Raises ValueError for a wrong setting, and SampleError, naming the sample, for any other failure.
  """

  composer: Composer
  samples: Sequence[Sample]
  shapes: Sequence[RowShape]
  quarantine: str | os.PathLike | None = None
  read: Callable[..., video.Frames] = video.read_frames
  limits: Limits = LIMITS
  blank: bool = False
  seq_slice: tuple[int, int] = (0, 1)
  resize: str = "squash"  # How frames are resized, as in video.read_frames.

  def __call__(self, row: PlanRow) -> Row:
    shape = self.shapes[row.shape]
    part, parts = self.seq_slice
    frames = shape.frames // parts
    layout = self.composer.layout
    arrays = dataclasses.replace(shape, frames=frames).zeros(layout.size)
    arrays["tokens"][:] = self.composer.tokenizer.pad_id
    arrays["targets"][:] = self.composer.tokenizer.pad_id
    writer = _RowWriter(arrays, shape, layout, first_frame=part * frames)
    for segment, number in enumerate(row.samples, 1):
      writer.begin_segment(segment)
      errors = self._write_sample(number, row.epoch, writer)
      if errors:
        masked = arrays["segment_ids"] == segment
        arrays["loss_mask"][masked] = 0
        arrays["num_bad"] += 1
    return arrays

  def _write_sample(self, number: int, epoch: int, writer: "_RowWriter") -> list[str]:
    """Writes a sample as the writer's segment; returns its media errors."""
    sample = self.samples[number]
    try:
      layouts = self.composer.timeline_layouts(sample, number, epoch)
      encoded = self.composer.encode_text(sample, layouts)
      positions = self.composer.positions(encoded, layouts, number, epoch)
      writer.write_text(encoded, positions, layouts)
      if self.composer.layout.stages:
        visual = _visual_tokens(encoded)
        queries, kept = self.composer.dropout(encoded, visual)
        writer.write_dropout(queries, kept)
      errors = [self._write_pictures(sample, layout, writer) for layout in layouts]
    except (ValueError, UnfitProcess, MemoryError):
      raise  # Its message names the wrong setting, or says what this host lacks.
    except Exception as error:
      raise SampleError(
        f"{sample.origin}: {type(error).__name__}: {error}. This is a defect of FiLax, not of a "
        "file; FILAX_DEBUG=1 shows where it is."
      ) from error
    return [error for error in errors if error]

  def _write_pictures(
    self,
    sample: Sample,
    layout: TimelineLayout,
    writer: "_RowWriter",
  ) -> str:
    """Writes the pixels of a timeline; returns its error, or ""."""
    probes = self.composer.probes
    slots = writer.take_slots(layout)
    for scene in layout.timeline:
      error = probes[scene.media].error
      if error and not self.blank:  # The length is unknown, so the planned times are meaningless.
        return self._blame(sample, scene.media, error)
    for scene in layout.timeline:
      duration = probes[scene.media].duration
      if 0 < duration <= scene.t0:
        error = (
          f"{scene.media}: ends after {duration:.2f} seconds, before its part begins at "
          f"{scene.t0:.2f}."
        )
        return self._blame(sample, "", error)
    try:
      self._fill(slots, layout)
    except MediaError as error:
      message = str(error)
      medium = blamed_medium(layout.timeline, message)
      return self._blame(sample, medium, message)
    return ""

  def _fill(self, slots: "_Slots", layout: TimelineLayout) -> None:
    """Decodes the pictures of a timeline into its slots. Raises MediaError."""
    size = self.composer.layout.size
    if self.blank:
      slots.pixels[:] = GREY
    elif layout.views is not None:
      scene = layout.timeline[0]
      picture = video.read_image(scene.media, limits=self.limits)
      slots.pixels[:] = tiles.pixels(picture, layout.views, size)
    elif len(slots.pixels):
      slots.pixels[:], slots.times[:] = video.read_timeline(
        layout.source,
        layout.times[slots.part],
        size,
        resize=self.resize,
        limits=self.limits,
        read=self.read,
      )

  def _blame(self, sample: Sample, media: str, error: str) -> str:
    """Adds a medium (for "", the sample) to the quarantine; returns `error`."""
    if self.quarantine is not None:
      add_to_quarantine(self.quarantine, media, error, sample.origin)
    return error


@dataclasses.dataclass(frozen=True)
class _Slots:
  """The places of a timeline's pictures: views of the row's arrays."""

  pixels: np.ndarray  # [n h w 3]
  times: np.ndarray  # [n]; of frames only.
  part: slice  # Which frames of the timeline they are.


class _RowWriter:
  """Writes samples into the arrays of a row, one after another.

  The frame arrays may hold only a part of the row's frames, from `first_frame` on. The other frames
  belong to other processes.
  """

  def __init__(
    self,
    arrays: Row,
    shape: RowShape,
    layout: VisualLayout,
    first_frame: int,
  ):
    self.arrays = arrays
    self.shape = shape
    self.layout = layout
    self.first_frame = first_frame
    # The next free place of each kind.
    self.token = 0
    self.frame = 0
    self.image = 0
    self.query = 0
    # The current sample, and the number of its frames that are written.
    self.segment = 0
    self.frames_written = 0

  def begin_segment(self, segment: int) -> None:
    """Starts the next sample."""
    self.segment = segment
    self.frames_written = 0

  def write_text(
    self,
    encoded: Encoded,
    positions: np.ndarray,
    layouts: Sequence[TimelineLayout],
  ) -> None:
    """Writes tokens, positions, targets and visual indices of the sample."""
    arrays = self.arrays
    length = len(encoded.tokens)
    start = self.token
    stop = start + length
    arrays["tokens"][start:stop] = encoded.tokens
    arrays["segment_ids"][start:stop] = self.segment
    arrays["positions"][start:stop] = positions
    arrays["targets"][start : stop - 1] = encoded.tokens[1:]
    arrays["loss_mask"][start : stop - 1] = encoded.labels[1:]
    newline = self.layout.newline_index(self.shape)
    frame = self.frame
    image = self.image
    for (begin, end), layout in zip(encoded.spans, layouts, strict=True):
      first = self._first_visual(layout, frame, image)
      place = slice(start + begin, start + end)
      arrays["visual_index"][place] = visual_order.placed(layout.pattern, first, newline)
      frame += layout.frames
      image += layout.images
    self.token = stop

  def _first_visual(self, layout: TimelineLayout, frame: int, image: int) -> int:
    """The visual-table row of a timeline's first token.

    frame, image: the first frame slot and image slot of the timeline.
    """
    if layout.views is None:
      group = frame // self.layout.frames_per_group
      return group * self.layout.tokens_per_group
    first_image = self.layout.first_image(self.shape)
    return first_image + image * self.layout.tokens_per_image

  def write_dropout(self, queries: np.ndarray, kept: np.ndarray) -> None:
    """Writes the query positions and kept counts of the current sample."""
    length = (self.arrays["segment_ids"] == self.segment).sum()
    start = self.token - length
    end = self.query + len(queries)
    self.arrays["queries"][self.query : end] = start + queries
    self.arrays["keep"][:, self.segment - 1] = kept
    self.query = end

  def take_slots(self, layout: TimelineLayout) -> _Slots:
    """Takes the next slots for the pictures of a timeline.

    They are marked as the sample's.
    """
    if layout.views is None:
      return self._take_frames(layout)
    slots = slice(self.image, self.image + layout.images)
    self.image = slots.stop
    self.arrays["image_segment_ids"][slots] = self.segment
    no_frames = slice(0)
    return _Slots(self.arrays["images"][slots], layout.times, no_frames)

  def _take_frames(self, layout: TimelineLayout) -> _Slots:
    arrays = self.arrays
    begin = self.frame - self.first_frame  # Counted from the first frame of the arrays.
    end = begin + layout.frames
    count = len(arrays["frame_times"])
    slots = slice(*np.clip([begin, end], 0, count))
    part = slice(slots.start - begin, slots.stop - begin)
    positions = self.frames_written + np.arange(layout.frames)
    self.frame += layout.frames
    self.frames_written += layout.frames
    arrays["frame_segment_ids"][slots] = self.segment
    arrays["frame_positions"][slots] = positions[part]
    arrays["frame_times"][slots] = layout.times[part]  # Decoding replaces them by the real times.
    return _Slots(arrays["frames"][slots], arrays["frame_times"][slots], part)


def _visual_tokens(encoded: Encoded) -> int:
  """The number of visual tokens of a sample."""
  return sum(stop - start for start, stop in encoded.spans)
