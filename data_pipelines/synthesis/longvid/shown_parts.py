# SPDX-License-Identifier: Apache-2.0
"""The parts of a track that questions show, and what all builders share.

A builder is a file with a function `list_slots(shown)`. It lists the questions that could be asked,
so that only the selected ones are built. Its random draws depend on names alone
(synthesis/draw.py). If it cannot ask about something, it counts the reason as "task: reason".
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
import operator
from typing import Any, NamedTuple, Protocol

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid.event_texts import drawn_stem, unique_labels
from data_pipelines.synthesis.longvid.guard import BlindGuard, half_of
from data_pipelines.synthesis.track import Event, MultipleChoice, Track

MOST = 2  # Questions of one kind about one shown part: more would crowd out other kinds.
MOST_PARTS = 4  # Of a track; drawn ones of more.
_DRAWS = 1 << 64


class Slot(NamedTuple):
  """A question that may be asked. `build` gives None where it cannot."""

  kind: str  # For counts.
  build: Callable[[draw.Draws], MultipleChoice | None]


class DrawnSlot(NamedTuple):
  """A slot with its draw."""

  draw: int  # Lower ones are taken first.
  task: str
  number: int  # Among those of the task.
  slot: Slot

  def question(self, shown: "ShownTrack") -> MultipleChoice | None:
    """The question, or None."""
    draws = draw.Draws(shown.seed, "question", shown.name, self.task, self.number)
    return self.slot.build(draws)


@dataclasses.dataclass(frozen=True)
class ShownPart:
  """A stretch of a track that a question shows."""

  name: str  # For draws: the track and the part.
  number: int  # Of the part; -1 for the whole track.
  start: float
  end: float
  text: str
  numbers: Sequence[int]  # Of its events in the track, in time order.
  events: tuple[Event, ...]
  is_whole: bool = False

  @property
  def duration(self) -> float:
    """Seconds."""
    return self.end - self.start

  @functools.cached_property
  def unique(self) -> list[bool]:
    """Whether the label of each event is like no other one."""
    return unique_labels([event.label for event in self.events])

  @functools.cached_property
  def unique_places(self) -> list[int]:
    """Places of events whose label is like no other one."""
    return [place for place, unique in enumerate(self.unique) if unique]

  def relative(self, second: float) -> float:
    """Seconds since the shown part begins."""
    return round((second - self.start) * 1000) / 1000  # round(…, 3) is five times slower.

  def choice(
    self,
    draws: draw.Draws,
    task: str,
    right: str,
    origin: Mapping[str, Any],
    *,
    wrong: Sequence[str] = (),
    **fields: str,
  ) -> MultipleChoice:
    """A question that shows this part, in a drawn wording.

    wrong: in any order; they are shuffled. fields: what stands in the wording.
    """
    stem = drawn_stem(draws, task, **fields)
    options = tuple(draws.shuffled(wrong)) if wrong else ()
    start, end = (None, None) if self.is_whole else (self.start, self.end)
    return MultipleChoice(task, stem, right, options, start, end, {"part": self.number, **origin})


class ShownTrack:
  """A track with all that questions about it share."""

  def __init__(
    self, track: Track, seed: int, rejected: Counter[str], guard: BlindGuard | None = None
  ):
    self.track = track
    self.seed = seed
    self.rejected = rejected  # "task: reason" -> how often nothing is asked.
    self.guard = guard
    self.name = track_name(track)

  @functools.cached_property
  def parts(self) -> list[ShownPart]:
    """The parts of a track, or the whole of one without parts.

    Of many parts a drawn few.
    """
    track = self.track
    if not track.parts:
      return [self.whole]
    draws = draw.Draws(self.seed, "parts", self.name)
    parts = []
    for number in sorted(draws.sample(range(len(track.parts)), MOST_PARTS)):
      part = track.parts[number]
      numbers = range(part.first, part.stop)
      events = track.events[part.first : part.stop]
      name = f"{self.name}/{number}"
      parts.append(ShownPart(name, number, part.t0, part.t1, part.text, numbers, events))
    return parts

  @functools.cached_property
  def whole(self) -> ShownPart:
    """All of the track."""
    track = self.track
    numbers = range(len(track.events))
    end = track.duration
    return ShownPart(self.name, -1, 0.0, end, track.summary, numbers, track.events, is_whole=True)

  def usual_times(self, kind: str, labels: Mapping[int, str]) -> dict[int, int]:
    """When text alone expects each label; only differences mean something.

    kind: of `guard.KINDS`. Whole numbers (see LabelTimes).
    """
    label_times = self.guard.label_times(kind, self._half) if self.guard else None
    if label_times is None:
      return dict.fromkeys(labels, 0)
    return {place: label_times.time(label) for place, label in labels.items()}

  @functools.cached_property
  def _half(self) -> int:
    """The half of all videos that the track's belongs to."""
    return half_of(self.track.key)


class TaskBuilder(Protocol):
  """The slots of a task about a track."""

  def __call__(self, shown: ShownTrack) -> Iterable[Slot]: ...


def drawn_slots(shown: ShownTrack, tasks: Mapping[str, TaskBuilder]) -> list[DrawnSlot]:
  """The slots of all tasks in a drawn order.

  That of a task's slots does not depend on the other tasks.
  """
  drawn = []
  for task, list_slots in tasks.items():
    draws = draw.Draws(shown.seed, "keep", shown.name, task)
    for number, slot in enumerate(list_slots(shown)):
      drawn.append(DrawnSlot(draws.below(_DRAWS), task, number, slot))
  drawn.sort(key=operator.attrgetter("draw"))
  return drawn


def track_name(track: Track) -> str:
  """A short name of a track, unique among those of its video."""
  scene = track.media[0]
  return f"{draw.digest(0, 'track', track.source, track.key, scene.media, scene.t0):016x}"
