# SPDX-License-Identifier: Apache-2.0
"""Cleans the events of a track: order, bounds, repetitions, redacted stretches."""

import collections
from collections.abc import Sequence
import dataclasses
import math
import re

from data_pipelines.synthesis.track import Event, Part, Track

SHORTEST = 1e-3  # Seconds of an event.
SHORTEST_CLAMPED = 1.0  # Seconds that are left of an event that ends beyond the video.
SAME_TIME = 1e-3  # Seconds between the ends of two annotations of the same event.
NEIGHBOUR_GAP = 1.0  # Seconds between events that are one if their texts are equal.
MOST_REDACTED = 0.1  # Share of a part.
_SPACE = re.compile(r"\s+")
Stretch = tuple[float, float]  # From, to (seconds).


def clean_track(
  track: Track, counts: collections.Counter[str], redacted: Sequence[Stretch] = ()
) -> Track:
  """Sorts, bounds and merges the events of a track.

  They end up in time order, inside the video and without repetitions; a part keeps those of its
  events that are left. counts: increased for each reason of a change. redacted: stretches that show
  nothing; events that overlap one are dropped, and parts of which more than a tenth is redacted.
  """
  bounded: dict[int, Event] = {}
  for number, event in enumerate(track.events):
    clamped = _bounded_event(event, track.duration, redacted, counts)
    if clamped is not None:
      bounded[number] = clamped
  events: list[Event] = []
  texts: list[str] = []  # Of the events, to compare.
  origins: list[set[int]] = []  # The events' numbers in `track`.
  for number, event in sorted(bounded.items(), key=_time_order):
    text = _plain(event.text)
    same = _repetition(event, text, events, texts)
    if same is None:
      events.append(event)
      texts.append(text)
      origins.append({number})
      continue
    counts["events: repetitions of the event before, merged into it"] += 1
    end = max(events[same].t1, event.t1)
    events[same] = dataclasses.replace(events[same], t1=end)
    origins[same].add(number)
  parts = _clean_parts(track, origins, redacted, counts) if track.parts else ()
  return dataclasses.replace(track, events=tuple(events), parts=parts)


def _bounded_event(
  event: Event, duration: float, redacted: Sequence[Stretch], counts: collections.Counter[str]
) -> Event | None:
  """The event inside the video; None if it is dropped."""
  text = " ".join(event.text.split())
  if not text:
    counts["events: without text, dropped"] += 1
    return None
  if not math.isfinite(event.t0) or not math.isfinite(event.t1):
    counts["events: without a time, dropped"] += 1
    return None
  is_inside = event.t0 >= 0 and event.t1 <= duration and event.t1 - event.t0 >= SHORTEST
  if is_inside and text == event.text and not redacted:
    return event  # As nearly all are.
  start = max(event.t0, 0.0)
  end = min(event.t1, duration)
  is_clamped = end < event.t1 or start > event.t0
  if is_clamped and end - start < SHORTEST_CLAMPED:
    counts["events: outside of the video, dropped"] += 1
    return None
  if end - start < SHORTEST:
    counts["events: without a length, dropped"] += 1
    return None
  if overlap(start, end, redacted) > 0:
    counts["events: in redacted stretches, dropped"] += 1
    return None
  if is_clamped:
    counts["events: partly outside of the video, cut"] += 1
  elif text == event.text:
    return event
  return dataclasses.replace(event, t0=start, t1=end, text=text)


def overlap(start: float, end: float, stretches: Sequence[Stretch]) -> float:
  """Seconds of start..end that lie in stretches, each stretch counted alone."""
  total = 0.0
  for begin, stop in stretches:
    total += max(0.0, min(end, stop) - max(start, begin))
  return total


def _time_order(item: tuple[int, Event]) -> tuple[float, float, str]:
  event = item[1]
  return event.t0, event.t1, event.text


def _repetition(
  event: Event, text: str, before: Sequence[Event], texts: Sequence[str]
) -> int | None:
  """The number of the event before that this one repeats.

  Either it is the same annotation again, or the last one goes on. text, texts: of the event and
  those before, as `_plain` gives them.
  """
  number = len(before) - 1
  if before:
    last = before[-1]
    if event.t0 - last.t1 <= NEIGHBOUR_GAP and texts[-1] == text:
      return number
  while number >= 0 and event.t0 - before[number].t0 <= SAME_TIME:
    other = before[number]
    if abs(event.t1 - other.t1) <= SAME_TIME and texts[number] == text:
      return number
    number -= 1
  return None


def _plain(text: str) -> str:
  return text.casefold().rstrip(" .")


def _clean_parts(
  track: Track,
  origins: Sequence[set[int]],
  redacted: Sequence[Stretch],
  counts: collections.Counter[str],
) -> tuple[Part, ...]:
  """The parts with the numbers of the events that are left."""
  parts = []
  for part in track.parts:
    start = max(part.t0, 0.0)
    end = min(part.t1, track.duration)
    length = end - start
    if not length >= SHORTEST:
      counts["parts: outside of the video, dropped"] += 1
      continue
    if overlap(start, end, redacted) > MOST_REDACTED * length:
      counts["parts: redacted, dropped"] += 1
      continue
    members = []
    for number, numbers in enumerate(origins):
      if any(part.first <= origin < part.stop for origin in numbers):
        members.append(number)
    first = members[0] if members else 0
    stop = members[-1] + 1 if members else 0
    if stop - first > len(members):
      counts["parts: mixed with events of others, dropped"] += 1
      continue
    text = _SPACE.sub(" ", part.text).strip()
    parts.append(Part(start, end, text, first, stop))
  parts.sort(key=_part_order)
  return tuple(parts)


def _part_order(part: Part) -> tuple[float, float]:
  return part.t0, -part.t1
