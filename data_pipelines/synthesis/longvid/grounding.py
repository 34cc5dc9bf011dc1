# SPDX-License-Identifier: Apache-2.0
"""Questions about when an event happens: a choice among spans, or a free answer.

The four options of a choice are spans of events of the same part, and any of the four events may be
asked about. A model that sees only texts expects an event at a certain time. The rank of an event
is the number of other spans that are nearer to this time than its own span. The rank of the right
option is drawn evenly from 0 to 3. So neither the place of a span nor the words of the event show
which option is right.
"""

from collections.abc import Iterator, Sequence
import functools

from data_pipelines.synthesis.draw import Draws
from data_pipelines.synthesis.longvid.event_texts import span_text
from data_pipelines.synthesis.longvid.shown_parts import MOST, ShownPart, ShownTrack, Slot
from data_pipelines.synthesis.longvid.word_times import DECIMALS
from data_pipelines.synthesis.question_templates import FREE_SPANS
from data_pipelines.synthesis.track import Event, MultipleChoice

OPTIONS = 4
MOST_OVERLAP = 0.3  # Intersection over union of two spans offered together.
LONGEST = 0.5  # Of the shown part; a longer event is nearly always found.
SHORTEST = 0.2  # Seconds; a shorter span is one moment in words.
DRAWN = 5  # Fours of spans, one of which is offered.
MOST_SPACED = 4 * OPTIONS  # Spans of a part to offer.
_TOO_LONG = f"grounding: the event is longer than {LONGEST:.0%} of what is shown"


def list_slots(shown: ShownTrack) -> Iterator[Slot]:
  """Questions about the time of events."""
  for part in shown.parts:
    spans = _PartSpans(shown, part)
    for _ in range(MOST):
      yield Slot("grounding", spans.choice)
    yield Slot("grounding_free", spans.free_answer)


class _PartSpans:
  """The spans of a part. No event is asked about twice."""

  def __init__(self, shown: ShownTrack, part: ShownPart):
    self._shown = shown
    self._part = part
    self._used: set[int] = set()  # Places of events.

  @functools.cached_property
  def _usable(self) -> list[int]:
    """Places of events to ask about, or to offer, in time order."""
    part = self._part
    rejected = self._shown.rejected
    longest = LONGEST * part.duration
    usable = []
    for place, event in enumerate(part.events):
      seconds = event.t1 - event.t0
      if not event.label:
        rejected["grounding: the event has no label"] += 1
      elif not part.unique[place]:
        rejected["grounding: the label is like another one or too general"] += 1
      elif seconds > longest:
        rejected[_TOO_LONG] += 1
      elif seconds < SHORTEST:
        rejected["grounding: the event has no length"] += 1
      else:
        usable.append(place)
    return usable

  @property
  def _are_all_apart(self) -> bool:
    """Whether no usable span begins within an earlier one."""
    end = float("-inf")
    for place in self._usable:
      event = self._part.events[place]
      if event.t0 < end:
        return False
      end = event.t1
    return True

  @functools.cached_property
  def _spaced(self) -> list[int]:
    """Places whose spans hardly overlap, in time order; drawn where they do."""
    is_apart = self._are_all_apart
    if is_apart and len(self._usable) <= MOST_SPACED:
      return self._usable
    draws = Draws(self._shown.seed, "spaced", self._part.name)
    if is_apart:
      return sorted(draws.sample(self._usable, MOST_SPACED))
    events = self._part.events
    chosen: list[int] = []
    for number in draws.places(len(self._usable)):
      place = self._usable[number]
      if _hardly_overlaps(events[place], events, chosen):
        chosen.append(place)
        if len(chosen) == MOST_SPACED:
          break
    return sorted(chosen)

  def choice(self, draws: Draws) -> MultipleChoice | None:
    """A question with four spans."""
    part = self._part
    spaced = self._spaced
    if len(spaced) < OPTIONS:
      self._shown.rejected["grounding: too few spans for the options"] += 1
      return None
    by_rank = self._candidates(draws)
    if len(by_rank) < OPTIONS:
      self._shown.rejected["grounding: text alone gives the time away"] += 1
      return None
    rank = draws.below(OPTIONS)
    offered, right = draws.choose(by_rank[rank])
    wrong = [place for place in offered if place != right]
    texts = [self._text(place) for place in wrong]
    text = self._text(right)
    if len({text, *texts}) < OPTIONS:
      self._shown.rejected["grounding: spans that are written alike"] += 1
      return None
    self._used.add(right)
    origin = dict(
      events=[part.numbers[right]],
      others=[part.numbers[place] for place in sorted(wrong)],
      rank=rank,
    )
    label = part.events[right].label
    return part.choice(draws, "grounding", text, origin, wrong=texts, label=label)

  def _candidates(self, draws: Draws) -> dict[int, list[tuple[list[int], int]]]:
    """Rank -> (places of four spans, the right one) of drawings."""
    by_rank: dict[int, list[tuple[list[int], int]]] = {}
    spaced = self._spaced
    nearer = self._nearer
    for _ in range(DRAWN):
      numbers = draws.sample(range(len(spaced)), OPTIONS)
      offered = [spaced[number] for number in numbers]
      bits = 0
      for number in numbers:
        bits |= 1 << number
      for number, right in zip(numbers, offered, strict=True):
        if right not in self._used:
          rank = (nearer[number] & bits).bit_count()
          by_rank.setdefault(rank, []).append((offered, right))
    return by_rank

  @functools.cached_property
  def _nearer(self) -> list[int]:
    """For each span, the nearer ones as bits.

    Nearer to when text alone expects its event. Bit n is that of the n-th of `_spaced`.
    """
    labels = {place: self._part.events[place].label for place in self._spaced}
    times = self._shown.usual_times("event", labels)
    middles = self._middles()
    nearer = []
    for middle, time in zip(middles, times.values(), strict=True):
      expected = time / 10**DECIMALS
      distance = abs(middle - expected)
      bits = 0
      for number, other in enumerate(middles):
        if abs(other - expected) < distance:
          bits |= 1 << number
      nearer.append(bits)
    return nearer

  def _middles(self) -> list[float]:
    """The middles of spans, from -0.5 (the track's beginning) to 0.5."""
    duration = self._shown.track.duration
    middles = []
    for place in self._spaced:
      event = self._part.events[place]
      middles.append((event.t0 + event.t1) / 2 / duration - 0.5)
    return middles

  def free_answer(self, draws: Draws) -> MultipleChoice | None:
    """A question whose answer is a sentence with the span."""
    part = self._part
    unused = [place for place in self._usable if place not in self._used]
    if not unused:
      self._shown.rejected["grounding_free: no event that is not asked about"] += 1
      return None
    place = draws.choose(unused)
    self._used.add(place)
    sentence = draws.choose(FREE_SPANS).format(span=self._text(place))
    origin = dict(events=[part.numbers[place]])
    label = part.events[place].label
    return part.choice(draws, "grounding_free", sentence, origin, label=label)

  def _text(self, place: int) -> str:
    event = self._part.events[place]
    return span_text(self._part.relative(event.t0), self._part.relative(event.t1))


def _hardly_overlaps(event: Event, events: Sequence[Event], chosen: Sequence[int]) -> bool:
  """Whether the intersection over union with each chosen event is small."""
  for place in chosen:
    other = events[place]
    common = min(event.t1, other.t1) - max(event.t0, other.t0)
    union = max(event.t1, other.t1) - min(event.t0, other.t0)
    if common >= MOST_OVERLAP * union:
      return False
  return True
