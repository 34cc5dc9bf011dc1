# SPDX-License-Identifier: Apache-2.0
"""The order of events, and what happens right after or before one."""

from collections.abc import Iterator, Sequence
import functools
import itertools

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
    orders = _PartOrders(shown, part)
    for number in range(MOST):
      yield Slot("event_order", functools.partial(orders.order_question, number))
    yield Slot("event_after, event_before", functools.partial(neighbour_question, shown, part))


class _PartOrders:
  """Orders of the events of a part."""

  def __init__(self, shown: ShownTrack, part: ShownPart):
    self._shown = shown
    self._part = part

  def order_question(self, number: int, draws: Draws) -> MultipleChoice | None:
    """A question about the order of drawn events.

    None if there are few, and if text gives all orders away. number: among those of the part.
    """

    def draw_items(count: int) -> list[int]:
      return self._separate(count, draws)

    part = self._part
    rejected = self._shown.rejected
    count = len(part.unique_places)
    if count < LENGTHS[0]:
      rejected[f"event_order: fewer than {LENGTHS[0]} events with a label of their own"] += 1
      return None
    if number >= count // 2:  # It would be about the same events.
      rejected["event_order: few events with a label of their own"] += 1
      return None
    drawn = balanced_order(draws, draw_items, self._usual_times)
    if drawn is None:
      rejected["event_order: no events whose order text does not give away"] += 1
      return None
    items = numbered_list([part.events[place].label for place in drawn.listed])
    origin = drawn.origin(part)
    return part.choice(draws, "event_order", drawn.right, origin, wrong=drawn.wrong, items=items)

  @functools.cached_property
  def _usual_times(self) -> dict[int, int]:
    labels = {place: self._part.events[place].label for place in self._part.unique_places}
    return self._shown.usual_times("event", labels)

  @functools.cached_property
  def _are_all_separate(self) -> bool:
    """Whether all unique events clearly follow each other, as they mostly do."""
    events = self._part.events
    for first, second in itertools.pairwise(self._part.unique_places):
      if events[second].t0 - events[first].t0 < LEAST_GAP or events[second].t1 <= events[first].t1:
        return False
    return True

  def _separate(self, count: int, draws: Draws) -> list[int]:
    """Drawn places of events that clearly follow each other, in time order."""
    places = self._part.unique_places
    if self._are_all_separate:
      return sorted(draws.sample(places, count))
    events = self._part.events
    chosen: list[int] = []
    for number in draws.places(len(places)):
      place = places[number]
      if _is_separate(events[place], events, chosen):
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
