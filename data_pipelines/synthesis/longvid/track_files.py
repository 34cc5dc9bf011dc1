# SPDX-License-Identifier: Apache-2.0
"""Tracks of all sources in sharded files.

Selected, labelled, under one root of media.

All tracks of a source video are in one shard, so that a shard can be worked on by itself.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import itertools
import json
import os
from typing import Any

from data_pipelines.chunk_pool import ChunkPool
from data_pipelines.sample import Scene
from data_pipelines.synthesis import draw, shards
from data_pipelines.synthesis.labels.rules import rule_labels
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


def read_inputs(
  inputs: Sequence[TrackInput],
  excluded: frozenset[str],
  report: TrackReport,
  counts: Counter[str],
) -> Iterator[Track]:
  """The tracks of all sources, with media below the common root.

  A video in two sources is taken from the first one. counts: tracks by source and why some are left
  out.
  """
  root = common_root(entry.media_root for entry in inputs)
  earlier: set[int] = set()  # Digests of the keys of the sources before.
  for number, entry in enumerate(inputs):
    keys: set[int] = set()
    is_last = number + 1 == len(inputs)
    folder = folder_below(root, entry.media_root)
    for track in entry.read(entry.files, entry.media_root, report):
      reason = _left_out(track, excluded)
      digest = draw.digest(0, track.key)
      if not reason and digest in earlier:
        reason = "the video is in an earlier source"
      if reason:
        counts[f"{entry.source}: {reason}"] += 1
        continue
      counts[f"{entry.source}: taken"] += 1
      if not is_last:
        keys.add(digest)
      yield _placed(track, entry.source, folder)
    earlier |= keys


def _left_out(track: Track, excluded: frozenset[str]) -> str:
  """Why a track is left out; "" if it is not."""
  if track.key in excluded:
    return "the video is in a list of --exclude-ids"
  if not track.events and not track.summary:
    return "it has no events"
  if not track.media or not track.duration > 0:
    return "it has no medium or no length"
  return ""


def _placed(track: Track, source: str, folder: str) -> Track:
  """A track with its source, and media below the common root."""
  if not folder and track.source:
    return track
  scenes: list[Scene] = []
  for scene in track.media:
    name = f"{folder}/{scene.media}" if folder else scene.media
    scenes.append(dataclasses.replace(scene, media=name))
  return dataclasses.replace(track, source=track.source or source, media=tuple(scenes))


def write_tracks(
  output: shards.OutputFolder,
  names: Sequence[str],
  tracks: Iterator[Track],
  labeller: Labeller | None,
  processes: int,
) -> None:
  """Labels tracks and writes them to shards.

  The same bytes for any number of processes.

  labeller: None for rules, which run in all processes.
  """
  function = LabelledLines(len(names), labeller or rule_labels)
  with ChunkPool(function, 1 if labeller else processes) as pool:
    results = pool.map(_chunks(tracks))
    shards.write_drawn_shards(output, names, itertools.chain.from_iterable(results))


def _chunks(tracks: Iterator[Track]) -> Iterator[list[dict[str, Any]]]:
  """Records of tracks: they reach another process faster than tracks."""
  records = map(track_record, tracks)
  while chunk := list(itertools.islice(records, CHUNK)):
    yield chunk


def written_tracks(path: str | os.PathLike) -> Iterator[Track]:
  """The tracks of a file of `write_tracks`."""
  with open(path, "rb") as file:
    for line in file:
      yield parse_track(json.loads(line))
