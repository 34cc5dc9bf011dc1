# SPDX-License-Identifier: Apache-2.0
"""Derives answers again from tracks, with one function per task.

They read `made` (the numbers of events that a question is about) and the annotation, and never
import what builds questions.
"""

from collections.abc import Callable, Sequence
import itertools
import math
import re

from data_pipelines.synthesis.track import Event
from data_pipelines.synthesis.verify.asked import AskedQuestion, normal
from data_pipelines.synthesis.verify.shown_span import SLACK, ShownSpan
from data_pipelines.synthesis.verify.verdicts import Verdicts

LEAST_GAP = 2.0  # Seconds between the starts of events whose order is asked.
MOST_OVERLAP = 0.3  # Intersection over union of offered spans.
LARGEST_SHARE = 0.5  # The largest share of the shown video that an asked event may take.
LONGEST_GAP = 60.0  # Seconds between an event and its neighbour.
NEAR = 3.0  # Events of one label that are closer are one occurrence.
TOUCHING = 0.5  # Seconds that successive events may share.
ROUNDING = 1e-6

_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?) - ([0-9]+(?:\.[0-9]+)?)")
_LINE = re.compile(r"([0-9]+) - ([0-9]+) seconds: (.*)")

Derivation = Callable[[AskedQuestion, ShownSpan, Verdicts], None]


def _derive_grounding(question: AskedQuestion, shown: ShownSpan, verdicts: Verdicts) -> None:
  event = _named_event(question, shown, verdicts)
  if event is None:
    return
  right = shown.relative(event)
  reason = "the answer {} is not the span {} of {}"
  is_right = _is_span(printed_span(question.answer_text), right)
  verdicts.expect("derived", is_right, reason, question.answer_text, right, event.label)
  _check_unique(event, shown, verdicts)
  share = (event.t1 - event.t0) / (shown.end - shown.start)
  reason = "{} lasts {} of what is shown"
  verdicts.expect("ambiguous", share <= LARGEST_SHARE + 0.001, reason, event.label, round(share, 2))
  if question.options:
    _check_spans(question, shown, right, verdicts)


def _check_unique(event: Event, shown: ShownSpan, verdicts: Verdicts) -> None:
  """No other shown event has the label of this one."""
  same = list(shown.labelled(normal(event.label)))
  verdicts.expect("ambiguous", len(same) == 1, "{} happens {} times", event.label, len(same))


def _check_spans(
  question: AskedQuestion, shown: ShownSpan, right: Sequence[float], verdicts: Verdicts
) -> None:
  """Offered spans are those of events, and hardly overlap."""
  exact: list[Sequence[float] | None] = []
  for number, option in enumerate(question.options):
    span = printed_span(option)
    spans = map(shown.relative, shown.events.values())
    matches = [candidate for candidate in spans if _is_span(span, candidate)]
    if number != question.right:
      verdicts.expect("pool", matches, "{} is the span of no event that is shown", option)
      exact.append(matches[0] if matches else span)
    else:
      exact.append(right)
  for first, second in itertools.combinations(exact, 2):
    if first and second:
      overlap = intersection_over_union(first, second)
      reason = "the spans {} and {} overlap"
      verdicts.expect("ambiguous", overlap < MOST_OVERLAP + 0.001, reason, first, second)


def printed_span(text: str) -> tuple[float, float] | None:
  """The first "a - b" of a text, in seconds."""
  match = _SPAN.search(text)
  return (float(match[1]), float(match[2])) if match else None


def _is_span(printed: Sequence[float] | None, exact: Sequence[float]) -> bool:
  if printed is None:
    return False
  return abs(printed[0] - exact[0]) <= SLACK and abs(printed[1] - exact[1]) <= SLACK


def intersection_over_union(first: Sequence[float], second: Sequence[float]) -> float:
  """How much two spans overlap, from 0 to 1."""
  common = min(first[1], second[1]) - max(first[0], second[0])
  union = max(first[1], second[1]) - min(first[0], second[0])
  return max(0.0, common) / union if union > 0 else 1.0


def _derive_event_order(question: AskedQuestion, shown: ShownSpan, verdicts: Verdicts) -> None:
  events = _listed_events(question, shown, verdicts)
  if events is None:
    return
  labels = [event.label for event in events]
  _check_order(question, labels, [event.t0 for event in events], verdicts)
  for first, second in itertools.combinations(events, 2):
    is_apart = abs(first.t0 - second.t0) >= LEAST_GAP - ROUNDING
    is_ordered = (first.t0 < second.t0) == (first.t1 < second.t1)
    reason = "{} and {} have no clear order"
    verdicts.expect("ambiguous", is_apart and is_ordered, reason, first.label, second.label)
  for event in events:
    _check_unique(event, shown, verdicts)


def _derive_scene_order(question: AskedQuestion, shown: ShownSpan, verdicts: Verdicts) -> None:
  events = _listed_events(question, shown, verdicts)
  if events is None:
    return
  first: dict[str, float] = {}
  for event in shown.events.values():
    place = normal(event.place)
    first[place] = min(event.t0, first.get(place, event.t0))
  places = [event.place for event in events]
  starts = [first[normal(place)] for place in places]
  _check_order(question, places, starts, verdicts)
  for one_start, other_start in itertools.combinations(starts, 2):
    is_apart = abs(one_start - other_start) >= LEAST_GAP - ROUNDING
    verdicts.expect("ambiguous", is_apart, "two places of {} appear at once", places)


def _listed_events(
  question: AskedQuestion, shown: ShownSpan, verdicts: Verdicts
) -> list[Event] | None:
  """The events of a numbered list; None if they are not shown."""
  numbers = _numbers(question, "listed")
  is_shown = len(numbers) >= 3 and all(number in shown.events for number in numbers)
  reason = "made.listed {} are not events of what is shown"
  if not verdicts.expect("provenance", is_shown, reason, question.made.get("listed")):
    return None
  return [shown.events[number] for number in numbers]


def _check_order(
  question: AskedQuestion, labels: Sequence[str], starts: Sequence[float], verdicts: Verdicts
) -> None:
  """Checks a list, its right order, and the other options."""
  stated = [normal(line) for line in question.listed]
  expected = [normal(label) for label in labels]
  reason = "the list {} is not {}"
  verdicts.expect("stem", stated == expected, reason, question.listed, labels)
  numbers = sorted(range(1, len(starts) + 1), key=lambda number: starts[number - 1])
  reason = "the answer {} is not the order {}"
  answer = question.answer_text
  verdicts.expect("derived", printed_order(answer) == numbers, reason, answer, numbers)
  for place, option in enumerate(question.options):
    order = printed_order(option)
    verdicts.expect(
      "pool", sorted(order) == sorted(numbers), "{} is not an order of the list", option
    )
    if place != question.right:
      verdicts.expect("ambiguous", order != numbers, "the wrong option {} is right", option)


def printed_order(text: str) -> list[int]:
  """The numbers of "2 -> 1 -> 3"."""
  return [int(number) for number in re.findall(r"[0-9]+", text)]


def _derive_after(question: AskedQuestion, shown: ShownSpan, verdicts: Verdicts) -> None:
  event = _named_event(question, shown, verdicts)
  if event is None:
    return
  later = [other for other in _others(shown, event) if other.t0 >= event.t1 - TOUCHING]
  nearest = min((other.t0 for other in later), default=math.inf)
  expected = [other for other in later if other.t0 <= nearest + ROUNDING]
  gap = nearest - event.t1
  _check_neighbour(question, shown, event, expected, gap, verdicts)


def _derive_before(question: AskedQuestion, shown: ShownSpan, verdicts: Verdicts) -> None:
  event = _named_event(question, shown, verdicts)
  if event is None:
    return
  earlier = []
  for other in _others(shown, event):
    if other.t1 <= event.t0 + TOUCHING and other.t0 <= event.t0:
      earlier.append(other)
  nearest = max((other.t1 for other in earlier), default=-math.inf)
  expected = [other for other in earlier if other.t1 >= nearest - TOUCHING]
  gap = event.t0 - nearest
  _check_neighbour(question, shown, event, expected, gap, verdicts)


def _others(shown: ShownSpan, event: Event) -> list[Event]:
  return [other for other in shown.events.values() if other is not event]


def _check_neighbour(
  question: AskedQuestion,
  shown: ShownSpan,
  event: Event,
  expected: Sequence[Event],
  gap: float,
  verdicts: Verdicts,
) -> None:
  """Checks the answer against `expected`, and the wrong options."""
  answer = normal(question.answer_text)
  labels = [other.label for other in expected]
  reason = "the answer {} is not the neighbour {} of {}"
  is_right = answer in map(normal, labels)
  verdicts.expect("derived", is_right, reason, question.answer_text, labels, event.label)
  verdicts.expect("ambiguous", gap <= LONGEST_GAP + SLACK, "the neighbour is {} seconds off", gap)
  _check_unique(event, shown, verdicts)
  is_other = normal(event.label) not in map(normal, question.options)
  verdicts.expect("neighbour", is_other, "{} itself is an option", event.label)
  for place, option in enumerate(question.options):
    if place == question.right:
      continue
    is_shown = any(True for _ in shown.labelled(normal(option)))
    verdicts.expect("pool", is_shown, "{} is not an event of what is shown", option)
    is_wrong = normal(option) not in map(normal, labels)
    verdicts.expect("ambiguous", is_wrong, "the wrong option {} is right", option)


def _derive_count(question: AskedQuestion, shown: ShownSpan, verdicts: Verdicts) -> None:
  reason = "the annotation of {} does not mention everything, so counts are unknown"
  verdicts.expect("provenance", shown.track.exhaustive, reason, question.key)
  label = str(question.made.get("label", ""))
  is_asked = bool(normal(label)) and normal(label) in normal(question.stem)
  if not verdicts.expect("stem", is_asked, "the question does not name {}", label):
    return
  events = sorted(shown.labelled(normal(label)), key=lambda event: event.t0)
  count = 0
  end = -math.inf
  for event in events:
    if event.t0 - end >= NEAR - ROUNDING:
      count += 1
    end = max(end, event.t1)
  reason = "the answer is {}, and {} happens {} times"
  answer = question.answer_text
  verdicts.expect("derived", answer.strip() == str(count), reason, answer, label, count)
  if question.options:
    numbers = sorted(int(option) if option.isdigit() else -1 for option in question.options)
    window = list(range(numbers[0], numbers[0] + len(numbers)))
    reason = "the options {} are not successive numbers"
    verdicts.expect("pool", numbers == window and numbers[0] >= 0, reason, question.options)


def _derive_short_caption(question: AskedQuestion, shown: ShownSpan, verdicts: Verdicts) -> None:
  number = question.made.get("part", -1)
  parts = shown.track.parts
  is_part = isinstance(number, int) and 0 <= number < len(parts)
  text = parts[number].text if is_part else shown.track.summary
  is_same = normal(question.answer) == normal(text)
  verdicts.expect("derived", is_same, "the answer {} is not {}", question.answer, text)


def _derive_dense_caption(question: AskedQuestion, shown: ShownSpan, verdicts: Verdicts) -> None:
  numbers = _numbers(question, "events")
  events = [shown.events[number] for number in numbers if number in shown.events]
  is_shown = bool(events) and len(events) == len(numbers)
  if not verdicts.expect("provenance", is_shown, "made.events {} are not shown", numbers):
    return
  last_start = 0
  texts = set()
  for line in question.answer.split("\n"):
    match = _LINE.fullmatch(line)
    if not verdicts.expect("derived", match, "{} is not a line with times", line):
      continue
    assert match is not None
    start = int(match[1])
    end = int(match[2])
    text = normal(match[3])
    texts.add(text)
    is_monotone = last_start <= start <= end <= shown.end - shown.start + 1
    verdicts.expect("times", is_monotone, "{} steps back", line)
    last_start = start
    is_found = _describes(text, start, end, shown, events)
    verdicts.expect("derived", is_found, "{} is the caption of no event then", line)
  is_complete = {normal(event.text or event.label) for event in events} == texts
  verdicts.expect("derived", is_complete, "the lines are not those of the events {}", numbers)


def _describes(text: str, start: int, end: int, shown: ShownSpan, events: Sequence[Event]) -> bool:
  """Whether events with this text reach from `start` to `end`."""
  starts = []
  ends = []
  for event in events:
    if normal(event.text or event.label) == text:
      first, last = shown.relative(event)
      starts.append(first)
      ends.append(last)
  is_start = any(abs(start - second) <= 1 for second in starts)
  return is_start and any(abs(end - second) <= 1 for second in ends)


def _named_event(question: AskedQuestion, shown: ShownSpan, verdicts: Verdicts) -> Event | None:
  """The event X that a question names; None if it does not."""
  numbers = _numbers(question, "events")
  is_shown = bool(numbers) and numbers[0] in shown.events
  reason = "made.events {} are not events of what is shown"
  if not verdicts.expect("provenance", is_shown, reason, question.made.get("events")):
    return None
  event = shown.events[numbers[0]]
  label = normal(event.label)
  is_named = bool(label) and f" {label} " in f" {normal(question.stem)} "
  if not verdicts.expect("stem", is_named, "the question does not name {}", event.label):
    return None
  return event


def _numbers(question: AskedQuestion, key: str) -> list[int]:
  """A list of event numbers in `made`; [] for anything else."""
  numbers = question.made.get(key)
  if not isinstance(numbers, list):
    return []
  return [number for number in numbers if isinstance(number, int)]


DERIVATIONS: dict[str, Derivation] = {
  "caption_short": _derive_short_caption,
  "caption_dense": _derive_dense_caption,
  "grounding": _derive_grounding,
  "grounding_free": _derive_grounding,
  "event_order": _derive_event_order,
  "event_after": _derive_after,
  "event_before": _derive_before,
  "scene_order": _derive_scene_order,
  "count": _derive_count,
}
