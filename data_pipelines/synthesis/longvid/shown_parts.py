# SPDX-License-Identifier: Apache-2.0
"""The parts of a track that questions show, and what all builders share.

A builder is a file with `build_questions(track, seed, rejected, guard)`. It draws by names alone
(synthesis/draw.py) and counts in `rejected` why it asks nothing, as "task: reason".
"""

from collections import Counter
from collections.abc import Iterator
import dataclasses
import functools
from typing import Protocol

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid.event_texts import unique_labels
from data_pipelines.synthesis.longvid.guard import BlindGuard
from data_pipelines.synthesis.track import Event, MultipleChoice, Track

MOST = 2  # Questions of one kind about one shown part: more would crowd out other kinds.
MOST_PARTS = 4  # Of a track; drawn ones of more.


class TaskBuilder(Protocol):
  """The questions of a task about a track."""

  def __call__(
    self, track: Track, seed: int, rejected: Counter[str], guard: BlindGuard | None = None
  ) -> list[MultipleChoice]: ...


@dataclasses.dataclass(frozen=True)
class ShownPart:
  """A stretch of a track that a question shows."""

  name: str  # For draws: the track and the part.
  number: int  # Of the part; -1 for the whole track.
  start: float
  end: float
  text: str
  numbers: tuple[int, ...]  # Of its events in the track, in time order.
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

  def relative(self, second: float) -> float:
    """Seconds since the shown part begins."""
    return round(second - self.start, 3)

  def choice(self, task: str, stem: str, right: str, **fields) -> MultipleChoice:
    """A question that shows this part."""
    if not self.is_whole:
      fields |= dict(start=self.start, end=self.end)
    return MultipleChoice(task, stem, right, **fields)


def shown_parts(track: Track, seed: int) -> Iterator[ShownPart]:
  """The parts of a track, or the whole of one without parts.

  Of many parts a drawn few.
  """
  if not track.parts:
    yield whole_track(track)
  drawn = draw.shuffled(range(len(track.parts)), seed, "parts", _track_name(track))
  for number in sorted(drawn[:MOST_PARTS]):
    part = track.parts[number]
    numbers = tuple(range(part.first, part.stop))
    events = track.events[part.first : part.stop]
    name = f"{_track_name(track)}/{number}"
    yield ShownPart(name, number, part.t0, part.t1, part.text, numbers, events)


def whole_track(track: Track) -> ShownPart:
  """All of a track."""
  numbers = tuple(range(len(track.events)))
  name = _track_name(track)
  end = track.duration
  return ShownPart(name, -1, 0.0, end, track.summary, numbers, track.events, is_whole=True)


def _track_name(track: Track) -> str:
  """The name of a track among those of its video."""
  scene = track.media[0]
  return f"{track.source}/{track.key}/{scene.media}/{scene.t0}"
