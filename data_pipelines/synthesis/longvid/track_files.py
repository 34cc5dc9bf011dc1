# SPDX-License-Identifier: Apache-2.0
"""Tracks of all sources in sharded files.

Selected, labelled, under one root of media.

All tracks of a source video are in one shard, so that a shard can be worked on by itself.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
import os
from typing import Any, NamedTuple

from data_pipelines.chunk_pool import ChunkPool
from data_pipelines.synthesis import draw, shards
from data_pipelines.synthesis.labels.rules import rule_labels
from data_pipelines.synthesis.sources.divided import (
  DividedReading,
  ParsedRecords,
  ReadingDivider,
  RecordParser,
  in_batches_of,
  taken_records,
)
from data_pipelines.synthesis.sources.registry import TrackReader
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Track, parse_track, track_record

CHUNK = 64  # Tracks labelled together.

Labeller = Callable[[Sequence[str], str], list[tuple[str, ...] | None]]


@dataclasses.dataclass(frozen=True)
class TrackInput:
  """The files of a source, and its reader."""

  source: str
  files: tuple[str, ...]
  media_root: str
  read: TrackReader
  licence: str = "unknown"
  divide_reading: ReadingDivider | None = None  # In place of `read`, where the source has it.


@dataclasses.dataclass(frozen=True)
class LabelledLines:
  """Labels tracks and writes them as lines.

  Records of tracks -> [(shard, line)].
  """

  count: int  # Shards.
  labeller: Labeller = rule_labels

  def __call__(self, records: Sequence[dict[str, Any]]) -> list[tuple[int, bytes]]:
    texts: dict[tuple[str, str], None] = {}  # (kind, text), each once, in order.
    for record in records:
      for event in record["events"]:
        if not event["label"] and event["text"]:
          texts["event", event["text"]] = None
        if event["place"]:
          texts["place", event["place"]] = None
    labels: dict[tuple[str, str], str] = {}
    for kind in ("event", "place"):
      distinct = [text for text_kind, text in texts if text_kind == kind]
      for text, answer in zip(distinct, self.labeller(distinct, kind), strict=True):
        labels[kind, text] = answer[0] if answer else ""
    return [self._line(record, labels) for record in records]

  def _line(self, record: dict[str, Any], labels: dict[tuple[str, str], str]) -> tuple[int, bytes]:
    events = []
    for event in record["events"]:
      label = event["label"] or labels.get(("event", event["text"]), "")
      place = labels.get(("place", event["place"]), "")
      events.append(event | {"label": label, "place": place})
    line = shards.json_line(record | {"events": events})
    return shard_of(record["key"], self.count), line


def shard_of(key: str, count: int) -> int:
  """The shard of a source video."""
  return draw.below(count, 0, "shard", key)


def common_root(roots: Iterable[str]) -> str:
  """The folder that holds the media of all sources.

  "" for none and for several addresses.
  """
  distinct = sorted(set(filter(None, roots)))
  if not distinct:
    return ""
  if any("://" in root for root in distinct):
    return distinct[0] if len(distinct) == 1 else ""
  return os.path.commonpath(list(map(os.path.abspath, distinct)))


def folder_below(root: str, media_root: str) -> str:
  """The folder of a source's media as seen from the common root.

  "" for the root itself.
  """
  if not media_root or media_root == root:
    return ""
  if "://" in media_root:
    return media_root
  folder = os.path.relpath(media_root, root) if root else os.path.abspath(media_root)
  return "" if folder == "." else folder


class PreparedTrack(NamedTuple):
  """A track as its source has it, ready to be taken or left out."""

  key: str
  reason: str  # Why no question can be asked; "" for a usable one.
  content: Any  # (shard, line); the track's record where labels are still to be asked for.


@dataclasses.dataclass(frozen=True)
class TrackMaker:
  """Parses a batch of raw records into prepared tracks. Picklable."""

  parse: RecordParser
  source: str
  folder: str  # Of the source's media, below the common root.
  lines: LabelledLines | None  # None: labels are asked for later.

  def __call__(self, batch: Any) -> list[ParsedRecords]:
    parsed = self.parse(batch)
    records: list[dict[str, Any]] = []
    for part in parsed:
      records += map(self._placed, map(_as_record, part.tracks))
    contents = iter(self.lines(records) if self.lines else records)
    prepared = map(_prepared, records, contents)
    return [
      part._replace(tracks=list(itertools.islice(prepared, len(part.tracks)))) for part in parsed
    ]

  def _placed(self, record: dict[str, Any]) -> dict[str, Any]:
    """A record with its source, and media below the common root."""
    record["source"] = record["source"] or self.source
    if self.folder:
      media = []
      for scene in record["media"]:
        media.append(scene | {"media": f"{self.folder}/{scene['media']}"})
      record["media"] = media
    return record


def _as_record(track: Track | dict[str, Any]) -> dict[str, Any]:
  return track_record(track) if isinstance(track, Track) else track


def _prepared(record: dict[str, Any], content: Any) -> PreparedTrack:
  return PreparedTrack(record["key"], _left_out(record), content)


def _left_out(record: Mapping[str, Any]) -> str:
  """Why no question can be asked about a track; "" if one can."""
  if not record["events"] and not record["summary"]:
    return "it has no events"
  if not record["media"] or not record["duration"] > 0:
    return "it has no medium or no length"
  return ""


@dataclasses.dataclass
class TrackPass:
  """The pass over the tracks of all sources, from raw records to labelled lines."""

  shards: int
  excluded: frozenset[str] = frozenset()  # Keys.
  labeller: Labeller | None = None  # None for rules, which run in all processes.
  processes: int = 1
  report: TrackReport = dataclasses.field(default_factory=TrackReport)
  # Tracks by source and why some are left out.
  counts: Counter[str] = dataclasses.field(default_factory=Counter)

  def lines(self, inputs: Sequence[TrackInput]) -> Iterator[tuple[int, bytes]]:
    """(shard, line) of the tracks, the same for any number of processes.

    A video in two sources is taken from the first one. Media are named below the common root.
    """
    contents = itertools.chain.from_iterable(self._contents(inputs))
    if self.labeller is None:
      yield from contents
      return
    label = LabelledLines(self.shards, self.labeller)
    yield from itertools.chain.from_iterable(map(label, in_batches_of(CHUNK, contents)))

  def _contents(self, inputs: Sequence[TrackInput]) -> Iterator[Iterator[Any]]:
    """The contents of the tracks to take, source by source."""
    root = common_root(entry.media_root for entry in inputs)
    earlier: set[int] = set()  # Digests of the keys of the sources before.
    for number, entry in enumerate(inputs):
      is_last = number + 1 == len(inputs)
      keys: set[int] | None = None if is_last else set()
      yield self._taken(entry, folder_below(root, entry.media_root), earlier, keys)
      earlier |= keys or set()

  def _taken(
    self, entry: TrackInput, folder: str, earlier: set[int], keys: set[int] | None
  ) -> Iterator[Any]:
    """The contents of the tracks of a source to take.

    keys: where digests of their keys are kept for the sources that follow; None if none does.
    """
    for track in self._prepared_tracks(entry, folder):
      reason = track.reason
      if track.key in self.excluded:
        reason = "the video is in a list of --exclude-ids"
      elif not reason and (earlier or keys is not None):
        digest = draw.digest(0, track.key)
        if digest in earlier:
          reason = "the video is in an earlier source"
        elif keys is not None:
          keys.add(digest)
      self.counts[f"{entry.source}: {reason or 'taken'}"] += 1
      if not reason:
        yield track.content

  def _prepared_tracks(self, entry: TrackInput, folder: str) -> Iterator[PreparedTrack]:
    """The tracks of a source in order."""
    lines = LabelledLines(self.shards) if self.labeller is None else None
    report = self.report
    if entry.divide_reading is None:
      records = map(track_record, entry.read(entry.files, entry.media_root, report))
      reading = DividedReading(in_batches_of(CHUNK, records), _read_already)
      report = TrackReport()  # `read` reports all in the other one.
    else:
      reading = entry.divide_reading(entry.files, entry.media_root, report)
    make = TrackMaker(reading.parse, entry.source, folder, lines)
    with ChunkPool(make, 1 if self.labeller else self.processes) as pool:
      for parsed in taken_records(pool.map(reading.batches), report):
        yield from parsed.tracks


def _read_already(records: list[dict[str, Any]]) -> list[ParsedRecords]:
  """The parser of records of tracks, which are sent faster than tracks."""
  return [ParsedRecords(records, [], Counter())]


def written_tracks(path: str | os.PathLike) -> Iterator[Track]:
  """The tracks of a file of `write_tracks`."""
  with open(path, "rb") as file:
    for line in file:
      yield parse_track(json.loads(line))
