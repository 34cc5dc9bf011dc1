# SPDX-License-Identifier: Apache-2.0
"""How often events happen: separate occurrences of a label in a video."""

from collections.abc import Sequence
import dataclasses

from data_pipelines.synthesis.longvid.event_texts import are_alike, is_generic, normalised_label
from data_pipelines.synthesis.track import Event, Track

NEAR_SECONDS = 3.0  # Events of one label closer than this are one occurrence.


@dataclasses.dataclass(frozen=True)
class LabelCount:
  """A label of a video and how often it happens."""

  label: str
  numbers: tuple[int, ...]  # Of its events in the track.
  count: int  # Separate occurrences.


def label_counts(track: Track) -> list[LabelCount]:
  """The labels of a track that are like no other one."""
  groups: dict[str, list[int]] = {}
  for number, event in enumerate(track.events):
    groups.setdefault(normalised_label(event.label), []).append(number)
  counts = []
  for text, numbers in groups.items():
    if is_generic(text) or _is_like_another(text, groups):
      continue
    events = [track.events[number] for number in numbers]
    count = _separate(events)
    counts.append(LabelCount(events[0].label, tuple(numbers), count))
  return counts


def _is_like_another(text: str, texts: Sequence[str] | dict) -> bool:
  return any(other != text and are_alike(text, other) for other in texts)


def _separate(events: Sequence[Event]) -> int:
  """Occurrences of events in time order; those close together are one."""
  count = 0
  end = float("-inf")
  for event in events:
    count += event.t0 - end >= NEAR_SECONDS
    end = max(end, event.t1)
  return count
