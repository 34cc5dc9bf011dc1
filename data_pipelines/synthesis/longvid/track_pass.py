# SPDX-License-Identifier: Apache-2.0
"""The pass over the tracks of all sources: selected, labelled, as lines of shards.

One process reads raw records; all parse and label them; the first one then decides, in the order of
the files, which tracks are taken. Lines, counts and reports are the same for any number of
processes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any, NamedTuple

from data_pipelines.chunk_pool import ChunkPool
from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid.track_files import (
  LabelledLines,
  Labeller,
  TrackInput,
  common_root,
  folder_below,
)
from data_pipelines.synthesis.sources.divided import (
  DividedReading,
  ParsedRecords,
  RecordParser,
  in_batches_of,
  taken_records,
)
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Track

CHUNK = 64  # Tracks labelled together.
EXCLUDED = "the video is in a list of --exclude-ids"
EARLIER = "the video is in an earlier source"


class PreparedTrack(NamedTuple):
  """A track that can be taken or left out."""

  key: str
  reason: str  # Why no question can be asked about it; "" if one can.
  content: Any  # (shard, line), or the track if labels are still to be asked for.


@dataclasses.dataclass(frozen=True)
class TrackMaker:
  """Parses a batch of raw records and prepares their tracks. Picklable."""

  parse: RecordParser
  source: str
  folder: str  # Of the source's media, below the common root.
  lines: LabelledLines | None  # None: labels are asked for later.

  def __call__(self, batch: Any) -> list[ParsedRecords]:
    prepared = []
    for part in self.parse(batch):
      prepared.append(part._replace(tracks=self._prepared(part.tracks)))
    return prepared

  def _prepared(self, tracks: Sequence[Track]) -> list[PreparedTrack]:
    reasons = list(map(_left_out, tracks))
    usable = []
    for track, reason in zip(tracks, reasons, strict=True):
      if not reason:
        usable.append(self._placed(track))
    contents = iter(self.lines(usable) if self.lines else usable)
    prepared = []
    for track, reason in zip(tracks, reasons, strict=True):
      content = None if reason else next(contents)
      prepared.append(PreparedTrack(track.key, reason, content))
    return prepared

  def _placed(self, track: Track) -> Track:
    """A track with its source, and media below the common root."""
    if track.source and not self.folder:
      return track
    media = []
    for scene in track.media:
      name = f"{self.folder}/{scene.media}" if self.folder else scene.media
      media.append(dataclasses.replace(scene, media=name))
    return dataclasses.replace(track, source=track.source or self.source, media=tuple(media))


def _left_out(track: Track) -> str:
  """Why no question can be asked about a track; "" if one can."""
  if not track.events and not track.summary:
    return "it has no events"
  if not track.media or not track.duration > 0:
    return "it has no medium or no length"
  return ""


def _read_already(tracks: list[Track]) -> list[ParsedRecords]:
  """The parser of tracks that one process has parsed."""
  return [ParsedRecords(tracks, [], Counter())]


@dataclasses.dataclass
class TrackPass:
  """The pass over the tracks of all sources. Each is made once."""

  shards: int
  excluded: frozenset[str] = frozenset()  # Keys.
  labeller: Labeller | None = None  # None for rules, which run in all processes.
  processes: int = 1
  report: TrackReport = dataclasses.field(default_factory=TrackReport)
  # Tracks by source and why some are left out.
  counts: Counter[str] = dataclasses.field(default_factory=Counter)
  # Digests of the keys of the sources before.
  _earlier: set[int] = dataclasses.field(default_factory=set)

  def lines(self, inputs: Sequence[TrackInput]) -> Iterator[tuple[int, bytes]]:
    """(shard, line) of the tracks. A video in two sources is taken from the first."""
    contents = self._contents(inputs)
    if self.labeller is None:
      yield from contents
      return
    label = LabelledLines(self.shards, self.labeller)
    for chunk in in_batches_of(CHUNK, contents):
      yield from label(chunk)

  def _contents(self, inputs: Sequence[TrackInput]) -> Iterator[Any]:
    """The contents of the tracks to take, source by source."""
    root = common_root(entry.media_root for entry in inputs)
    for number, entry in enumerate(inputs):
      folder = folder_below(root, entry.media_root)
      is_last = number + 1 == len(inputs)
      yield from self._taken(entry, self._prepared_tracks(entry, folder), is_last)

  def _taken(
    self, entry: TrackInput, tracks: Iterator[PreparedTrack], is_last: bool
  ) -> Iterator[Any]:
    """The contents of the tracks of a source to take; their keys are kept unless it is the last."""
    keys: set[int] = set()
    are_shared = bool(self._earlier) or not is_last
    for track in tracks:
      reason = EXCLUDED if track.key in self.excluded else track.reason
      if are_shared and not reason:
        digest = draw.digest(0, track.key)
        if digest in self._earlier:
          reason = EARLIER
        elif not is_last:
          keys.add(digest)
      self.counts[f"{entry.source}: {reason or 'taken'}"] += 1
      if not reason:
        yield track.content
    self._earlier |= keys

  def _prepared_tracks(self, entry: TrackInput, folder: str) -> Iterator[PreparedTrack]:
    """The tracks of a source in order."""
    lines = LabelledLines(self.shards) if self.labeller is None else None
    report = self.report
    if entry.divide_reading is None:
      tracks = entry.read(entry.files, entry.media_root, report)
      reading = DividedReading(in_batches_of(CHUNK, tracks), _read_already)
      report = TrackReport()  # `read` reports all in the other one.
    else:
      reading = entry.divide_reading(entry.files, entry.media_root, report)
    make = TrackMaker(reading.parse, entry.source, folder, lines)
    with ChunkPool(make, 1 if self.labeller else self.processes) as pool:
      for parsed in taken_records(pool.map(reading.batches), report):
        yield from parsed.tracks
