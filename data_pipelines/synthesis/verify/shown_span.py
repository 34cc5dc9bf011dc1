# SPDX-License-Identifier: Apache-2.0
"""The stretch of a track that a record shows, from its media."""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

from data_pipelines.sample import Scene, Timeline
from data_pipelines.synthesis.track import Event, Track
from data_pipelines.synthesis.verify.asked import normal

SLACK = 0.051  # Seconds by which a printed or cut time may differ.


@dataclasses.dataclass(frozen=True)
class ShownSpan:
  """Seconds of a track, with the events in them by their number."""

  track: Track
  start: float
  end: float
  events: Mapping[int, Event]

  def relative(self, event: Event) -> tuple[float, float]:
    """The span of an event in what is shown."""
    return event.t0 - self.start, event.t1 - self.start

  def labelled(self, label: str) -> Iterator[Event]:
    """The events with a label, which is already normal."""
    for event in self.events.values():
      if normal(event.label) == label:
        yield event


def shown_span(media: Timeline, track: Track, made: Mapping[str, Any]) -> ShownSpan | None:
  """What a timeline shows of a track; None for another video.

  The events are those of the part that `made` names, else those that lie inside.
  """
  start = _second_of(media[0], media[0].t0, track)
  last = media[-1]
  end = track.duration if last.t1 is None else _second_of(last, last.t1, track)
  if start is None or end is None:
    return None
  number = made.get("part", -1)
  events: dict[int, Event] = {}
  if isinstance(number, int) and 0 <= number < len(track.parts):
    part = track.parts[number]
    if start > part.t0 + SLACK or end < part.t1 - SLACK:
      inside = range(0)
    else:
      inside = range(part.first, part.stop)
  else:
    inside = range(len(track.events))
  for place in inside:
    event = track.events[place]
    if start - SLACK <= event.t0 and event.t1 <= end + SLACK:
      events[place] = event
  return ShownSpan(track, start, end, events)


def _second_of(scene: Scene, second: float, track: Track) -> float | None:
  """Where a second of a scene's file is on a track."""
  for original in track.media:
    stop = float("inf") if original.t1 is None else original.t1
    is_inside = original.t0 - SLACK <= second <= stop + SLACK
    if scene.media == original.media and scene.kind == original.kind and is_inside:
      return original.at + second - original.t0
  return None
