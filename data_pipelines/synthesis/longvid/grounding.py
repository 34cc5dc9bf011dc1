# SPDX-License-Identifier: Apache-2.0
"""When an event happens.

As a choice among spans of the same part, and as a free answer.

The rank of the right span by its start is drawn first, and then an event that can have this rank:
so neither the earliest nor a middle span is right more often.
"""

from collections import Counter
from collections.abc import Sequence

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid.event_texts import drawn_stem, span_text
from data_pipelines.synthesis.longvid.guard import BlindGuard
from data_pipelines.synthesis.longvid.shown_parts import MOST, ShownPart, shown_parts
from data_pipelines.synthesis.question_templates import FREE_SPANS
from data_pipelines.synthesis.track import Event, MultipleChoice, Track

OPTIONS = 4
MOST_OVERLAP = 0.3  # Intersection over union of two spans offered together.
LONGEST = 0.5  # Of the shown part; a longer event is nearly always found.
SHORTEST = 0.2  # Seconds; a shorter span is one moment in words.


def build_questions(
  track: Track, seed: int, rejected: Counter[str], guard: BlindGuard | None = None
) -> list[MultipleChoice]:
  """Questions about the time of events. `guard` has no part in them."""
  del guard
  questions = []
  for part in shown_parts(track, seed):
    names = (part.name,)
    places = _usable(part, rejected)
    order = draw.drawn_places(len(places), seed, "grounding", *names)
    drawn = [places[number] for number in order]
    used: set[int] = set()
    for number in range(min(MOST, len(drawn))):
      question = _choice(part, places, used, seed, (*names, number))
      if question is None:
        rejected["grounding: too few spans for the options"] += 1
      else:
        questions.append(question)
    for place in drawn[: MOST + 1]:
      if place not in used:
        questions.append(_free(part, place, seed, (*names, place)))
        break
  return questions


def _usable(part: ShownPart, rejected: Counter[str]) -> list[int]:
  """Places of events to ask about, or to offer, in time order."""
  usable = []
  for place, event in enumerate(part.events):
    seconds = event.t1 - event.t0
    if not event.label:
      rejected["grounding: the event has no label"] += 1
    elif not part.unique[place]:
      rejected["grounding: the label is like another one or too general"] += 1
    elif seconds > LONGEST * part.duration:
      rejected[f"grounding: the event is longer than {LONGEST:.0%} of what is shown"] += 1
    elif seconds < SHORTEST:
      rejected["grounding: the event has no length"] += 1
    else:
      usable.append(place)
  return usable


def _choice(
  part: ShownPart, places: Sequence[int], used: set[int], seed: int, names: tuple
) -> MultipleChoice | None:
  """A question with four spans; adds its event to `used`."""
  rank = draw.below(OPTIONS, seed, "rank", "grounding", *names)
  spaced = _spaced(part, places, seed, names)
  last = len(spaced) - (OPTIONS - rank)
  candidates = [place for place in spaced[rank : last + 1] if place not in used]
  if len(spaced) < OPTIONS or not candidates:
    return None
  right = draw.choose(candidates, seed, "right", "grounding", *names)
  middle = spaced.index(right)
  order = draw.drawn_places(len(spaced), seed, "wrong", "grounding", *names)
  before = [spaced[place] for place in order if place < middle]
  behind = [spaced[place] for place in order if place > middle]
  wrong = sorted(before[:rank] + behind[: OPTIONS - 1 - rank])
  texts = [_span(part, part.events[place]) for place in wrong]
  event = part.events[right]
  text = _span(part, event)
  if len({text, *texts}) < OPTIONS:
    return None
  used.add(right)
  stem = drawn_stem("grounding", seed, *names, label=event.label)
  origin = dict(
    part=part.number,
    events=[part.numbers[right]],
    others=[part.numbers[place] for place in wrong],
    rank=rank,
  )
  return part.choice("grounding", stem, text, wrong=tuple(texts), origin=origin)


def _spaced(part: ShownPart, places: Sequence[int], seed: int, names: tuple) -> list[int]:
  """Places whose spans hardly overlap, in time order; drawn where they do."""
  chosen: list[int] = []
  for number in draw.drawn_places(len(places), seed, "spaced", *names):
    place = places[number]
    event = part.events[place]
    if all(_overlap(event, part.events[other]) < MOST_OVERLAP for other in chosen):
      chosen.append(place)
    if len(chosen) >= 4 * OPTIONS:
      break
  return sorted(chosen)


def _overlap(first: Event, second: Event) -> float:
  """Intersection over union of two spans."""
  common = min(first.t1, second.t1) - max(first.t0, second.t0)
  union = max(first.t1, second.t1) - min(first.t0, second.t0)
  return max(0.0, common) / union


def _span(part: ShownPart, event: Event) -> str:
  return span_text(part.relative(event.t0), part.relative(event.t1))


def _free(part: ShownPart, place: int, seed: int, names: tuple) -> MultipleChoice:
  """A question whose answer is a sentence with the span."""
  event = part.events[place]
  stem = drawn_stem("grounding_free", seed, *names, label=event.label)
  sentence = draw.choose(FREE_SPANS, seed, "sentence", *names)
  answer = sentence.format(span=_span(part, event))
  origin = dict(part=part.number, events=[part.numbers[place]])
  return part.choice("grounding_free", stem, answer, origin=origin)
