# SPDX-License-Identifier: Apache-2.0
"""An annotated video: the common form between sources and tasks.

Sources (data_pipelines/synthesis/sources) write tracks, tasks (synthesis/longvid) read them, and
neither knows the other. All seconds are on the track's own timeline.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from data_pipelines.manifest.reader import RecordError
from data_pipelines.sample import Scene, Timeline


@dataclasses.dataclass  # Not frozen, and never changed: millions are made, in a third of the time.
class Event:
  """Something that happens from t0 to t1 seconds."""

  t0: float
  t1: float
  text: str  # The annotation as it was written.
  label: str = ""  # A short name; "" if there is none yet.
  place: str = ""  # Where it happens; "" if unknown.


@dataclasses.dataclass(frozen=True)
class Part:
  """A longer stretch of a video: the parent of events[first:stop]."""

  t0: float
  t1: float
  text: str
  first: int
  stop: int


@dataclasses.dataclass(frozen=True)
class Track:
  """One video with its events in time order."""

  key: str  # The source video under one name (synthesis/splits.py).
  media: Timeline
  duration: float  # Seconds.
  events: tuple[Event, ...]
  parts: tuple[Part, ...] = ()
  summary: str = ""
  source: str = ""  # The name of the data set.
  exhaustive: bool = False  # Whether every occurrence of an event is annotated: counts are right.


@dataclasses.dataclass  # Like Event.
class MultipleChoice:
  """A question with its options, before letters are drawn."""

  task: str
  stem: str  # The question, without options.
  right: str
  wrong: tuple[str, ...] = ()  # Empty for a free answer.
  start: float | None = None  # The part of the track that is shown, in seconds.
  end: float | None = None
  origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # How it was derived.


def track_record(track: Track, events: list[dict[str, Any]] | None = None) -> dict[str, Any]:
  """A track as JSON.

  events: records that replace those of the track's own events.
  """
  record = dict(vars(track))  # dataclasses.asdict copies every text: 20 times slower.
  record["media"] = list(map(vars, track.media))
  record["events"] = list(map(vars, track.events)) if events is None else events
  record["parts"] = list(map(vars, track.parts))
  return record


def parse_track(record: Any) -> Track:
  """The inverse of `track_record`. Raises RecordError for anything else."""
  try:
    return Track(
      key=str(record["key"]),
      media=tuple([Scene(**scene) for scene in record["media"]]),
      duration=float(record["duration"]),
      events=tuple([Event(**event) for event in record["events"]]),
      parts=tuple([Part(**part) for part in record.get("parts", ())]),
      summary=str(record.get("summary", "")),
      source=str(record.get("source", "")),
      exhaustive=bool(record.get("exhaustive", False)),
    )
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise RecordError(f"is not a track: {type(error).__name__} {error}") from None
