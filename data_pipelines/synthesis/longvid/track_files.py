# SPDX-License-Identifier: Apache-2.0
"""Tracks in sharded files: labelled, with media below one root.

All tracks of a source video are in one shard, so that a shard can be worked on by itself.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import json
import os

from data_pipelines.synthesis import draw, shards
from data_pipelines.synthesis.labels.rules import rule_labels
from data_pipelines.synthesis.sources.divided import ReadingDivider
from data_pipelines.synthesis.sources.registry import TrackReader
from data_pipelines.synthesis.track import Track, parse_track, track_record

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

  Tracks -> [(shard, line)]. The line is that of `track_record`.
  """

  count: int  # Shards.
  labeller: Labeller = rule_labels

  def __call__(self, tracks: Sequence[Track]) -> list[tuple[int, bytes]]:
    texts: dict[str, None] = {}  # Each once, in order.
    places: dict[str, None] = {}
    for track in tracks:
      for event in track.events:
        if not event.label and event.text:
          texts[event.text] = None
        if event.place:
          places[event.place] = None
    event_labels = self._labels(list(texts), "event")
    place_labels = self._labels(list(places), "place")
    lines = []
    for track in tracks:
      events = []
      for event in track.events:
        label = event.label or event_labels.get(event.text, "")
        place = place_labels.get(event.place, "")
        # What `vars` would make of an event, in a third of the time.
        events.append(dict(t0=event.t0, t1=event.t1, text=event.text, label=label, place=place))
      line = shards.json_line(track_record(track, events))
      lines.append((shard_of(track.key, self.count), line))
    return lines

  def _labels(self, texts: Sequence[str], kind: str) -> dict[str, str]:
    """Text -> label; "" where nothing is left."""
    labels = {}
    for text, answer in zip(texts, self.labeller(texts, kind), strict=True):
      labels[text] = answer[0] if answer else ""
    return labels


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


def written_tracks(path: str | os.PathLike) -> Iterator[Track]:
  """The tracks of a shard."""
  with open(path, "rb") as file:
    for line in file:
      yield parse_track(json.loads(line))
