# SPDX-License-Identifier: Apache-2.0
"""How often something happens, among four consecutive numbers.

Asked only of tracks whose annotation is exhaustive. The numbers offered are 0-3, 4-7, …; labels are
left out so that every number of a window is right equally often (`BlindGuard.count_share`): neither
the smallest nor the most usual number can be guessed. Without a guard nothing is balanced, and
every label is asked about.
"""

from collections.abc import Iterator
import functools

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid.event_texts import are_alike, is_generic
from data_pipelines.synthesis.longvid.guard import OPTIONS
from data_pipelines.synthesis.longvid.occurrences import LabelCount, label_counts
from data_pipelines.synthesis.longvid.shown_parts import ShownTrack, Slot
from data_pipelines.synthesis.track import MultipleChoice


def list_slots(shown: ShownTrack) -> Iterator[Slot]:
  """Questions about how often labels occur, balanced by the guard."""
  track = shown.track
  if not track.exhaustive:
    shown.rejected["count: the annotation does not mention everything"] += 1
    return
  candidates = label_counts(track)
  if not candidates:
    shown.rejected["count: no label that is like no other one"] += 1
  draws = draw.Draws(shown.seed, "count", shown.name)
  absent = _absent_label(shown, draws)
  if absent:
    candidates.append(LabelCount(absent, (), 0))
  for counted in candidates:
    share = shown.guard.count_share(track.source, counted.count) if shown.guard else 1.0
    if draws.unit() < share:
      yield Slot("count", functools.partial(_question, shown, counted))
    else:
      shown.rejected["count: left out to balance the numbers"] += 1


def _absent_label(shown: ShownTrack, draws: draw.Draws) -> str:
  """A label of the same activity that does not happen here."""
  track = shown.track
  labels = shown.guard.activity_labels(track) if shown.guard else []
  for place in draws.places(len(labels)):
    label = labels[place]
    is_present = any(are_alike(label, event.label) for event in track.events)
    if not is_present and not is_generic(label):
      return label
  return ""


def _question(shown: ShownTrack, counted: LabelCount, draws: draw.Draws) -> MultipleChoice:
  rank = counted.count % OPTIONS
  low = counted.count - rank
  wrong = [str(number) for number in range(low, low + OPTIONS) if number != counted.count]
  origin = dict(events=list(counted.numbers), label=counted.label, rank=rank)
  right = str(counted.count)
  return shown.whole.choice(draws, "count", right, origin, wrong=wrong, label=counted.label)
