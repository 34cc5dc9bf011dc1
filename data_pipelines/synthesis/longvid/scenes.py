# SPDX-License-Identifier: Apache-2.0
"""The order of places, by their first appearance.

Successive events at one place are one visit. A place that returns later is asked about by its first
appearance.
"""

from collections import Counter

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid.event_texts import (
  drawn_stem,
  is_generic,
  normalised_label,
  numbered_list,
  unique_labels,
)
from data_pipelines.synthesis.longvid.guard import BlindGuard
from data_pipelines.synthesis.longvid.orders import LENGTHS, balanced_order
from data_pipelines.synthesis.longvid.shown_parts import ShownPart, shown_parts
from data_pipelines.synthesis.longvid.word_times import label_time
from data_pipelines.synthesis.track import MultipleChoice, Track

LEAST_GAP = 2.0  # Seconds between the first appearances of two places.
MOST_QUESTIONS = 1  # About one shown part.


def build_questions(
  track: Track, seed: int, rejected: Counter[str], guard: BlindGuard | None = None
) -> list[MultipleChoice]:
  """Questions about the order of places, rank-balanced by `guard`."""
  guard = guard or BlindGuard()
  questions = []
  for part in shown_parts(track, seed):
    names = (part.name,)
    places = first_appearances(part)
    if len(places) < LENGTHS[0]:
      rejected[f"scene_order: fewer than {LENGTHS[0]} different places"] += 1
      continue
    for number in range(min(MOST_QUESTIONS, len(places) // 2)):
      question = _order(part, places, seed, (*names, number), guard, track.key)
      if question is None:
        rejected["scene_order: no places whose order text does not give away"] += 1
      else:
        questions.append(question)
  return questions


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


def _order(
  part: ShownPart, places: list[int], seed: int, names: tuple, guard: BlindGuard, key: str
) -> MultipleChoice | None:
  """A question about the order of drawn places.

  None if text gives all orders away.
  """

  def draw_items(attempt: int) -> list[int]:
    count = LENGTHS[(first_length + attempt) % len(LENGTHS)]
    order = draw.drawn_places(len(places), seed, "places", *names, attempt)
    return sorted(places[number] for number in order[:count])

  def usual_time(number: int) -> float:
    return label_time(part.events[number].place, weights)

  weights = guard.weights("place", key)
  first_length = draw.below(len(LENGTHS), seed, "length", "scenes", *names)
  drawn = balanced_order(draw_items, usual_time, seed, "scenes", *names)
  if drawn is None:
    return None
  labels = [part.events[number].place for number in drawn.listed]
  stem = drawn_stem("scene_order", seed, *names, items=numbered_list(labels))
  return part.choice("scene_order", stem, drawn.right, wrong=drawn.wrong, origin=drawn.origin(part))
