# SPDX-License-Identifier: Apache-2.0
"""The order of events, and what happens right after or before one."""

from collections import Counter
from collections.abc import Sequence

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid import neighbours
from data_pipelines.synthesis.longvid.event_texts import drawn_stem, numbered_list
from data_pipelines.synthesis.longvid.guard import BlindGuard
from data_pipelines.synthesis.longvid.orders import LENGTHS, balanced_order
from data_pipelines.synthesis.longvid.shown_parts import MOST, ShownPart, shown_parts
from data_pipelines.synthesis.longvid.word_times import label_time
from data_pipelines.synthesis.track import Event, MultipleChoice, Track

LEAST_GAP = 2.0  # Seconds between the starts of two events that are asked about.


def build_questions(
  track: Track, seed: int, rejected: Counter[str], guard: BlindGuard | None = None
) -> list[MultipleChoice]:
  """Questions about the order of events, rank-balanced by `guard`."""
  guard = guard or BlindGuard()
  questions = []
  for part in shown_parts(track, seed):
    names = (part.name,)
    places = [place for place, unique in enumerate(part.unique) if unique]
    if len(places) < LENGTHS[0]:
      rejected[f"event_order: fewer than {LENGTHS[0]} events with a label of their own"] += 1
      continue
    for number in range(min(MOST, len(places) // 2)):
      question = _order(part, places, seed, (*names, number), guard, track.key)
      if question is None:
        rejected["event_order: no events whose order text does not give away"] += 1
      else:
        questions.append(question)
    questions += neighbours.neighbour_questions(part, seed, names, rejected)
  return questions


def _order(
  part: ShownPart, places: Sequence[int], seed: int, names: tuple, guard: BlindGuard, key: str
) -> MultipleChoice | None:
  """A question about the order of drawn events.

  None if text gives all orders away.
  """

  def draw_items(attempt: int) -> list[int]:
    count = LENGTHS[(first_length + attempt) % len(LENGTHS)]
    return _separate(part, places, count, seed, (*names, attempt))

  def usual_time(place: int) -> float:
    return label_time(part.events[place].label, weights)

  weights = guard.weights("event", key)
  first_length = draw.below(len(LENGTHS), seed, "length", "order", *names)
  drawn = balanced_order(draw_items, usual_time, seed, "order", *names)
  if drawn is None:
    return None
  labels = [part.events[place].label for place in drawn.listed]
  stem = drawn_stem("event_order", seed, *names, items=numbered_list(labels))
  return part.choice("event_order", stem, drawn.right, wrong=drawn.wrong, origin=drawn.origin(part))


def _separate(
  part: ShownPart, places: Sequence[int], count: int, seed: int, names: tuple
) -> list[int]:
  """Drawn places of events that clearly follow each other, in time order."""
  chosen: list[int] = []
  for number in draw.drawn_places(len(places), seed, "events", "order", *names):
    place = places[number]
    event = part.events[place]
    if all(_follow(event, part.events[other]) for other in chosen):
      chosen.append(place)
    if len(chosen) == count:
      break
  return sorted(chosen)


def _follow(first: Event, second: Event) -> bool:
  """Whether two events have a clear order.

  Apart, and none within the other.
  """
  if abs(first.t0 - second.t0) < LEAST_GAP:
    return False
  return (first.t0 < second.t0) == (first.t1 < second.t1) and first.t1 != second.t1
