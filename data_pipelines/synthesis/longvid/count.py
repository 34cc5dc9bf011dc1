# SPDX-License-Identifier: Apache-2.0
"""How often something happens, among four consecutive numbers.

Asked only of tracks whose annotation is exhaustive. The numbers offered are 0-3, 4-7, …; labels are
left out so that every number of a window is right equally often (`BlindGuard.count_share`): neither
the smallest nor the most usual number can be guessed. Without a guard nothing is balanced, and
every label is asked about.
"""

from collections import Counter

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid.event_texts import are_alike, drawn_stem, is_generic
from data_pipelines.synthesis.longvid.guard import OPTIONS, BlindGuard
from data_pipelines.synthesis.longvid.occurrences import LabelCount, label_counts
from data_pipelines.synthesis.longvid.shown_parts import whole_track
from data_pipelines.synthesis.track import MultipleChoice, Track


def build_questions(
  track: Track, seed: int, rejected: Counter[str], guard: BlindGuard | None = None
) -> list[MultipleChoice]:
  """Questions about how often labels occur, balanced by `guard`."""
  if not track.exhaustive:
    rejected["count: the annotation does not mention everything"] += 1
    return []
  candidates = label_counts(track)
  if not candidates:
    rejected["count: no label that is like no other one"] += 1
  absent = _absent_label(track, seed, guard)
  if absent:
    candidates.append(LabelCount(absent, (), 0))
  questions = []
  for counted in candidates:
    share = guard.count_share(track.source, counted.count) if guard else 1.0
    if draw.unit(seed, "balance", track.key, counted.label) < share:
      questions.append(_question(track, counted, seed))
    else:
      rejected["count: left out to balance the numbers"] += 1
  return questions


def _absent_label(track: Track, seed: int, guard: BlindGuard | None) -> str:
  """A label of the same activity that does not happen here."""
  labels = guard.activity_labels(track) if guard else []
  for place in draw.drawn_places(len(labels), seed, "absent", track.key):
    label = labels[place]
    is_present = any(are_alike(label, event.label) for event in track.events)
    if not is_present and not is_generic(label):
      return label
  return ""


def _question(track: Track, counted: LabelCount, seed: int) -> MultipleChoice:
  rank = counted.count % OPTIONS
  low = counted.count - rank
  wrong = [str(number) for number in range(low, low + OPTIONS) if number != counted.count]
  stem = drawn_stem("count", seed, track.key, counted.label, label=counted.label)
  origin = dict(part=-1, events=list(counted.numbers), label=counted.label, rank=rank)
  part = whole_track(track)
  return part.choice("count", stem, str(counted.count), wrong=tuple(wrong), origin=origin)
