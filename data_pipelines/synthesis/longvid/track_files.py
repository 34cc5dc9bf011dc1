# SPDX-License-Identifier: Apache-2.0
"""Tracks in sharded files: labelled, with media below one root.

All tracks of a source video are in one shard, so that a shard can be worked on by itself.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import json
import os
from typing import Any

from data_pipelines.synthesis import draw, shards
from data_pipelines.synthesis.labels.rules import rule_labels
from data_pipelines.synthesis.sources.divided import ReadingDivider
from data_pipelines.synthesis.sources.registry import TrackReader
from data_pipelines.synthesis.track import Track, parse_track

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


def written_tracks(path: str | os.PathLike) -> Iterator[Track]:
  """The tracks of a shard."""
  with open(path, "rb") as file:
    for line in file:
      yield parse_track(json.loads(line))
