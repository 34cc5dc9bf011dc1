# SPDX-License-Identifier: Apache-2.0
"""The order of places, by their first appearance.

Successive events at one place are one visit. A place that returns later is asked about by its first
appearance.
"""

from collections.abc import Iterator
import functools

from data_pipelines.synthesis.draw import Draws
from data_pipelines.synthesis.longvid.event_texts import (
  is_generic,
  normalised_label,
  numbered_list,
  unique_labels,
)
from data_pipelines.synthesis.longvid.orders import LENGTHS, balanced_order
from data_pipelines.synthesis.longvid.shown_parts import ShownPart, ShownTrack, Slot
from data_pipelines.synthesis.track import MultipleChoice

LEAST_GAP = 2.0  # Seconds between the first appearances of two places.


def list_slots(shown: ShownTrack) -> Iterator[Slot]:
  """Questions about the order of places, rank-balanced by the guard."""
  for part in shown.parts:
    yield Slot("scene_order", functools.partial(_order, shown, part))


def first_appearances(part: ShownPart) -> list[int]:
  """Events that begin the first visit of a place, in time order.

  Places that are like another one or too general are left out, and those that begin within
  LEAST_GAP of the one before.
  """
  first: dict[str, int] = {}
  for number, event in enumerate(part.events):
    place = normalised_label(event.place)
    if place and not is_generic(place):
      first.setdefault(place, number)
  numbers = list(first.values())
  unique = unique_labels([part.events[number].place for number in numbers])
  chosen: list[int] = []
  for number, is_unique in zip(numbers, unique, strict=True):
    start = part.events[number].t0
    is_apart = not chosen or start - part.events[chosen[-1]].t0 >= LEAST_GAP
    if is_unique and is_apart:
      chosen.append(number)
  return chosen


def _order(shown: ShownTrack, part: ShownPart, draws: Draws) -> MultipleChoice | None:
  """A question about the order of drawn places.

  None if there are few, and if text gives all orders away.
  """

  def draw_items(count: int) -> list[int]:
    return sorted(draws.sample(places, count))

  places = first_appearances(part)
  if len(places) < LENGTHS[0]:
    shown.rejected[f"scene_order: fewer than {LENGTHS[0]} different places"] += 1
    return None
  usual_times = shown.usual_times("place", {place: part.events[place].place for place in places})
  drawn = balanced_order(draws, draw_items, usual_times)
  if drawn is None:
    shown.rejected["scene_order: no places whose order text does not give away"] += 1
    return None
  items = numbered_list([part.events[number].place for number in drawn.listed])
  origin = drawn.origin(part)
  return part.choice(draws, "scene_order", drawn.right, origin, wrong=drawn.wrong, items=items)
