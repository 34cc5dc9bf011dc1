# SPDX-License-Identifier: Apache-2.0
"""Tracks as JSONL (data_pipelines/synthesis/track.py): own annotations, and dumped tracks."""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools

from data_pipelines.manifest.record_blocks import RecordBlock, block_records, record_blocks
from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources.clean import clean_track
from data_pipelines.synthesis.sources.divided import (
  DividedReading,
  ParsedRecords,
  new_report,
  tracks_in_order,
)
from data_pipelines.synthesis.sources.media_folder import MediaFolder
from data_pipelines.synthesis.sources.registry import TrackSource
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Event, Part, Track, parse_track

_NUMBER = (int, float)
FILES = "*.jsonl of tracks: key, media, duration, events, parts, summary"


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """The tracks of the files whose media are there, cleaned."""
  yield from tracks_in_order(divide_reading(files, media_root, report), report)


def divide_reading(files: Sequence[str], media_root: str, report: TrackReport) -> DividedReading:
  """Blocks of records, and what parses them."""
  blocks = itertools.chain.from_iterable(map(record_blocks, files))
  return DividedReading(blocks, _BlockParser(media_root))


@dataclasses.dataclass(frozen=True)
class _BlockParser:
  """Parses a block of records of tracks."""

  media_root: str

  def __call__(self, block: RecordBlock) -> list[ParsedRecords]:
    report = new_report()
    tracks = list(_tracks(block, MediaFolder(self.media_root), report))
    return [ParsedRecords(tracks, report.bad, report.repairs)]


def _tracks(block: RecordBlock, media: MediaFolder, report: TrackReport) -> Iterator[Track]:
  for line, record in block_records(block):
    try:
      if isinstance(record, RecordError):
        raise record
      track = parse_track(record)
      _check(track, media)
      track = clean_track(track, report.repairs)
      if not track.events:
        raise RecordError("has no event inside of its video")
    except RecordError as error:
      report.leave_out(block.path, line, error)
      continue
    yield track if track.source else dataclasses.replace(track, source="track_files")


def _check(track: Track, media: MediaFolder) -> None:
  """Raises RecordError for a track whose values are not a track's."""
  if not track.media or not 0 < track.duration < 1e9:
    raise RecordError("has no media or no duration")
  if not track.key:
    raise RecordError("has an empty key")
  for scene in track.media:
    _check_scene(scene, media)
  stretches: tuple[Event | Part, ...] = (*track.events, *track.parts)
  for stretch in stretches:
    if not isinstance(stretch.t0, _NUMBER) or not isinstance(stretch.t1, _NUMBER):
      raise RecordError("has an event or a part with a time that is not a number")
  for part in track.parts:
    if not _are_numbers(part.first, part.stop) or not 0 <= part.first <= part.stop:
      raise RecordError("has a part without the numbers of its events")
    if part.stop > len(track.events):
      raise RecordError("has a part with events that are not there")
  _check_texts(track)


def _check_texts(track: Track) -> None:
  """Raises RecordError for a text that is none or no UTF-8."""
  texts = [track.key, track.summary, track.source]
  for scene in track.media:
    texts += (scene.media, scene.kind)
  for event in track.events:
    texts += (event.text, event.label, event.place)
  texts += [part.text for part in track.parts]
  try:
    "".join(texts).encode()
  except TypeError:
    raise RecordError("has an event or a part with a text that is none") from None
  except UnicodeEncodeError:
    raise RecordError("has a text that is not UTF-8") from None


def _check_scene(scene: Scene, media: MediaFolder) -> None:
  if not isinstance(scene.media, str):
    raise RecordError("has a scene whose media is not a path")
  media.check(scene.media)
  end = scene.t0 if scene.t1 is None else scene.t1
  if not _are_numbers(scene.t0, scene.at, end):
    raise RecordError("has a scene with a time that is not a number")


def _are_numbers(*values: object) -> bool:
  for value in values:
    if not isinstance(value, _NUMBER):
      return False
  return True


SOURCE = TrackSource(
  read_tracks, FILES, "as the tracks name them", "as the tracks' own source", divide_reading
)
