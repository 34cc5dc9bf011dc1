# SPDX-License-Identifier: Apache-2.0
"""A row of the plan to arrays. Whatever is wrong with a file, the row keeps its shape and place.

Only a MediaError blames a file. Anything else is a wrong setting or a defect of ours: it ends the
run, because it would mask one sample after the other.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import json
import os
import pathlib

import numpy as np

from data_pipelines.media import frames as video
from data_pipelines.media.open import GREY, LIMITS, Limits, MediaError
from data_pipelines.packing import tiles, visual_order
from data_pipelines.packing.planner import PlanRow
from data_pipelines.packing.sample_layout import Composer, Shown
from data_pipelines.sample import Sample, Timeline
from data_pipelines.text.templates import Encoded
from filax.spec import RowShape

try:
  import fcntl
except ImportError:  # Not on Windows, where quarantine.jsonl may hold a medium twice.
  fcntl = None

Row = dict[str, np.ndarray]


class SampleError(ValueError):
  """A sample could not be made into arrays, and none of its files is to blame."""


@dataclasses.dataclass(frozen=True)
class Materialise:
  """PlanRow -> the arrays of `spec.BATCH` (without R), under the row's shape.

  A sample with a medium that cannot be read stays in place; its loss_mask is 0 and it is counted in
  num_bad; the medium is added to `quarantine` (a JSONL file), once, or the sample if it asks for a
  part that its medium does not have. Its other media are as they are. `read` is video.read_frames
  or that of a FrameCache. With `blank`, pictures are grey and no file is opened. `seq_slice`
  (i, n): only the i-th of n parts of the frame slots is decoded, and the frame keys hold that part
  alone; a file that is damaged half way is then masked only in the parts that show the damage.
  Picklable.

  Raises ValueError for a wrong setting, and SampleError, naming the sample, for a defect of ours.
  """

  composer: Composer
  samples: Sequence[Sample]
  shapes: Sequence[RowShape]
  quarantine: str | os.PathLike | None = None
  read: Callable[..., video.Frames] = video.read_frames
  limits: Limits = LIMITS
  blank: bool = False
  seq_slice: tuple[int, int] = (0, 1)
  resize: str = "squash"  # Of frames, as in video.read_frames.

  def __call__(self, row: PlanRow) -> Row:
    shape = self.shapes[row.shape]
    part, parts = self.seq_slice
    mine = shape.frames // parts
    out = dataclasses.replace(shape, frames=mine).zeros(self.composer.layout.size)
    out["tokens"][:] = out["targets"][:] = self.composer.tokenizer.pad_id
    place = _Place(out, shape, part * mine)
    for segment, number in enumerate(row.samples, 1):
      sample = self.samples[number]
      place.segment, place.position = segment, 0
      try:
        errors = self._write(sample, number, row.epoch, place)
      except ValueError:
        raise  # The sentence of a setting.
      except Exception as error:
        raise SampleError(
          f"{sample.origin}: {type(error).__name__}: {error}. This is a defect of FiLax, not of a "
          "file; FILAX_DEBUG=1 shows where it is."
        ) from error
      if errors:
        out["loss_mask"][out["segment_ids"] == segment] = 0
        out["num_bad"] += 1
    return out

  def _write(self, sample: Sample, number: int, epoch: int, place: "_Place") -> list[str]:
    """Writes a sample at its place; returns what is wrong with its media."""
    shown = self.composer.shown(sample, number, epoch)
    encoded = self.composer.encode(sample, shown)
    place.write_text(encoded, shown, self.composer.layout)
    if self.composer.layout.stages:
      place.write_dropout(*self.composer.dropped(encoded, _visual(encoded)))
    return [error for timeline in shown if (error := self._show(sample, timeline, place))]

  def _show(self, sample: Sample, shown: Shown, place: "_Place") -> str:
    """Writes the pixels of a timeline; returns what is wrong with it, "" if nothing is."""
    probes, size = self.composer.probes, self.composer.layout.size
    known = next((s for s in shown.timeline if probes[s.media].error), None)
    slots = place.take(shown)
    if known and not self.blank:  # Its length is not known, so its times mean nothing.
      return self._report(sample, known.media, probes[known.media].error)
    if late := next((s for s in shown.timeline if 0 < probes[s.media].duration <= s.t0), None):
      return self._report(
        sample,
        "",
        f"{late.media}: ends after {probes[late.media].duration:.2f} seconds, before "
        f"its part begins at {late.t0:.2f}.",
      )
    try:
      if self.blank:
        slots.fill(GREY)
      elif shown.views is not None:
        picture = video.read_image(shown.timeline[0].media, limits=self.limits)
        slots.pixels[:] = tiles.pixels(picture, shown.views, size)
      elif len(slots.pixels):
        slots.pixels[:], slots.times[:] = video.read_timeline(
          shown.source,
          shown.times[slots.part],
          size,
          resize=self.resize,
          limits=self.limits,
          read=self.read,
        )
    except MediaError as error:
      return self._report(sample, _culprit(shown.timeline, str(error)), str(error))
    return ""

  def _report(self, sample: Sample, media: str, error: str) -> str:
    if self.quarantine is not None:
      add(self.quarantine, dict(media=media, error=error, origin=sample.origin))
    return error


class _Place:
  """Where the next sample goes in a row. Frame slots before `first` belong to another process."""

  def __init__(self, out: Row, shape: RowShape, first: int):
    self.out, self.shape, self.first = out, shape, first
    self.token = self.frame = self.image = self.query = 0
    self.segment = self.position = 0

  def write_text(self, encoded: Encoded, shown: Sequence[Shown], layout):
    """Tokens, targets and the visual indices of one sample."""
    out, tokens = self.out, encoded.tokens
    here = slice(self.token, self.token + len(tokens))
    before = slice(here.start, here.stop - 1)
    out["tokens"][here] = tokens
    out["segment_ids"][here] = self.segment
    out["positions"][here] = np.arange(len(tokens))
    out["targets"][before], out["loss_mask"][before] = tokens[1:], encoded.labels[1:]
    newline, frame, image = layout.newline_index(self.shape), self.frame, self.image
    for (start, stop), timeline in zip(encoded.spans, shown, strict=True):
      if timeline.views is None:
        first = frame // layout.frames_per_group * layout.tokens_per_group
      else:
        first = layout.first_image(self.shape) + image * layout.tokens_per_image
      out["visual_index"][here.start + start : here.start + stop] = visual_order.placed(
        timeline.pattern, first, newline
      )
      frame, image = frame + timeline.frames, image + timeline.images
    self.token = here.stop

  def write_dropout(self, queries: np.ndarray, kept: np.ndarray):
    """The query positions of the sample written last, and how much of it stays."""
    end = self.query + len(queries)
    start = self.token - (self.out["segment_ids"] == self.segment).sum()
    self.out["queries"][self.query : end] = start + queries
    self.out["keep"][:, self.segment - 1] = kept
    self.query = end

  def take(self, shown: Shown) -> "_Slots":
    """The slots of a timeline's pictures, marked as the sample's."""
    out = self.out
    if shown.views is not None:
      here = slice(self.image, self.image + shown.images)
      self.image = here.stop
      out["image_segment_ids"][here] = self.segment
      return _Slots(out["images"][here])
    begin, end, most = self.frame, self.frame + shown.frames, len(out["frame_times"])
    here = slice(*np.clip([begin - self.first, end - self.first], 0, most))
    part = slice(here.start + self.first - begin, here.stop + self.first - begin)
    positions = self.position + np.arange(shown.frames)[part]
    self.frame, self.position = end, self.position + shown.frames
    out["frame_segment_ids"][here] = self.segment
    out["frame_positions"][here] = positions
    out["frame_times"][here] = shown.times[part]  # Until the real ones are known.
    return _Slots(out["frames"][here], out["frame_times"][here], part)


@dataclasses.dataclass(frozen=True)
class _Slots:
  """Views into a row: pixels [n h w 3], times [n]; `part` is which of the timeline's frames."""

  pixels: np.ndarray
  times: np.ndarray | None = None
  part: slice | None = None

  def fill(self, grey: int):
    self.pixels[:] = grey


def _visual(encoded: Encoded) -> int:
  """How many visual tokens a sample has."""
  return sum(stop - start for start, stop in encoded.spans)


def _culprit(timeline: Timeline, message: str) -> str:
  """The medium that a message names; the first if it names none."""
  media = [scene.media for scene in timeline]
  return next((m for m in media if message.startswith(f"{m}:")), media[0])


def add(path: str | os.PathLike, record: dict):
  """Appends a record {media, error, origin} to quarantine.jsonl unless its medium (its origin where
  no medium is to blame) is there. A bad disk is no error."""
  path = pathlib.Path(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
      if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX)  # Until closed; threads and processes share the file.
      file.seek(0)
      lines = file.readlines()
      if _blamed(record) not in _names(lines):
        torn = bool(lines) and not lines[-1].endswith("\n")
        file.write("\n" * torn + json.dumps(record) + "\n")
  except OSError:  # The sample is masked and counted all the same.
    pass


def quarantined(path: str | os.PathLike) -> frozenset[str]:
  """What a quarantine.jsonl names: media, and origins of samples whose media are not to blame."""
  try:
    with open(path) as file:
      return frozenset(_names(file))
  except OSError as error:
    raise ValueError(
      f"{path} cannot be read ({error.strerror}). Set config.data.exclude to a quarantine.jsonl, "
      'or to "".'
    ) from error


def _blamed(record: dict) -> str:
  return record["media"] or record["origin"]


def _names(lines: Iterable[str]) -> set[str]:
  """What the lines of a quarantine name; a half-written one names nothing."""
  found = set()
  for line in lines:
    try:
      found.add(_blamed(json.loads(line)))
    except (ValueError, KeyError, TypeError):
      continue
  return found
