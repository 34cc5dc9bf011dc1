# SPDX-License-Identifier: Apache-2.0
"""The order of events, and what happens right after or before one."""

from collections.abc import Iterator, Sequence
import functools

from data_pipelines.synthesis.draw import Draws
from data_pipelines.synthesis.longvid.event_texts import numbered_list
from data_pipelines.synthesis.longvid.neighbours import neighbour_question
from data_pipelines.synthesis.longvid.orders import LENGTHS, balanced_order
from data_pipelines.synthesis.longvid.shown_parts import MOST, ShownPart, ShownTrack, Slot
from data_pipelines.synthesis.track import Event, MultipleChoice

LEAST_GAP = 2.0  # Seconds between the starts of two events that are asked about.


def list_slots(shown: ShownTrack) -> Iterator[Slot]:
  """Questions about the order of events, rank-balanced by the guard."""
  for part in shown.parts:
    for number in range(MOST):
      yield Slot("event_order", functools.partial(_order, shown, part, number))
    yield Slot("event_after, event_before", functools.partial(neighbour_question, shown, part))


def _order(shown: ShownTrack, part: ShownPart, number: int, draws: Draws) -> MultipleChoice | None:
  """A question about the order of drawn events.

  None if there are few, and if text gives all orders away. number: among those of the part.
  """

  def draw_items(count: int) -> list[int]:
    return _separate(part, count, draws)

  def usual_time(place: int) -> int:
    return shown.usual_time("event", part.events[place].label)

  count = len(part.unique_places)
  if count < LENGTHS[0]:
    shown.rejected[f"event_order: fewer than {LENGTHS[0]} events with a label of their own"] += 1
    return None
  if number >= count // 2:  # It would be about the same events.
    shown.rejected["event_order: few events with a label of their own"] += 1
    return None
  drawn = balanced_order(draws, draw_items, usual_time)
  if drawn is None:
    shown.rejected["event_order: no events whose order text does not give away"] += 1
    return None
  items = numbered_list([part.events[place].label for place in drawn.listed])
  origin = drawn.origin(part)
  return part.choice(draws, "event_order", drawn.right, origin, wrong=drawn.wrong, items=items)


def _separate(part: ShownPart, count: int, draws: Draws) -> list[int]:
  """Drawn places of events that clearly follow each other, in time order."""
  chosen: list[int] = []
  for number in draws.places(len(part.unique_places)):
    place = part.unique_places[number]
    if _is_separate(part.events[place], part.events, chosen):
      chosen.append(place)
      if len(chosen) == count:
        break
  return sorted(chosen)


def _is_separate(event: Event, events: Sequence[Event], chosen: Sequence[int]) -> bool:
  """Whether an event and each chosen one have a clear order.

  Apart, and none within the other.
  """
  for place in chosen:
    other = events[place]
    if abs(event.t0 - other.t0) < LEAST_GAP or event.t1 == other.t1:
      return False
    if (event.t0 < other.t0) != (event.t1 < other.t1):
      return False
  return True
