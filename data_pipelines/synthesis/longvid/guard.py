# SPDX-License-Identifier: Apache-2.0
"""Learns from the training split what text alone gives away, to balance options.

Fitted on training tracks only. Labels of a track are judged by a model of the tracks of the other
half, so that it has not seen the track itself.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import functools
from typing import Any

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid.event_texts import normalised_label
from data_pipelines.synthesis.longvid.occurrences import label_counts
from data_pipelines.synthesis.longvid.word_times import LabelTimes, fit_word_times
from data_pipelines.synthesis.track import Track

KINDS = ("event", "place")
MOST_LABELS = 200_000  # Labels of each kind and half that are enough for the fit.
OPTIONS = 4  # Numbers that a question about a count offers.
MOST_ABSENT = 64  # Labels kept of each activity.


@dataclasses.dataclass(frozen=True)
class BlindGuard:
  """What can be guessed from text alone. Plain data, for JSON."""

  # Kind -> the weights fitted on each half of the tracks.
  word_times: Mapping[str, list[dict[str, float]]] = dataclasses.field(default_factory=dict)
  # Source -> count -> the share of labels with that count that is asked about.
  counts: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
  # Source and activity -> labels, for questions about what does not happen.
  labels: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)

  def label_times(self, kind: str, half: int) -> LabelTimes | None:
    """When text alone expects labels of tracks of a half.

    None if nothing was fitted.
    """
    times = self._label_times.get(kind)
    return times[1 - half] if times else None

  @functools.cached_property
  def _label_times(self) -> dict[str, list[LabelTimes]]:
    """By kind and the half that was fitted."""
    times = {}
    for kind, halves in self.word_times.items():
      times[kind] = [LabelTimes(weights) for weights in halves]
    return times

  def count_share(self, source: str, count: int) -> float:
    """The share of labels with a count to ask about."""
    return self.counts.get(source, {}).get(str(count), 0.0)

  def activity_labels(self, track: Track) -> list[str]:
    """Labels of other tracks of the same activity."""
    return self.labels.get(_activity(track), [])


def half_of(key: str) -> int:
  """The half, 0 or 1, that a source video belongs to."""
  return draw.below(2, 0, "half", key)


def _activity(track: Track) -> str:
  return f"{track.source}/{normalised_label(track.summary)}"


def parse_guard(record: Mapping[str, Any]) -> BlindGuard:
  """The inverse of dataclasses.asdict."""
  return BlindGuard(**record)


def fit_guard(tracks: Iterable[Track]) -> BlindGuard:
  """Fits a guard to the tracks of the training split."""
  samples: dict[tuple[str, int], tuple[list[str], list[float]]] = {}
  for kind in KINDS:
    for half in (0, 1):
      samples[kind, half] = [], []
  histograms: dict[str, Counter[int]] = {}
  labels: dict[str, dict[str, str]] = {}
  for track in tracks:
    half = half_of(track.key)
    for kind, label, time in _label_times(track):
      texts, times = samples[kind, half]
      if len(texts) < MOST_LABELS:
        texts.append(label)
        times.append(time)
    if track.exhaustive:
      _add_counts(track, histograms.setdefault(track.source, Counter()), labels)
  word_times = {}
  for kind in KINDS:
    word_times[kind] = [fit_word_times(*samples[kind, half]) for half in (0, 1)]
  counts = {source: _balanced(histogram) for source, histogram in sorted(histograms.items())}
  pools = {activity: list(texts.values()) for activity, texts in sorted(labels.items())}
  return BlindGuard(word_times, counts, pools)


def _label_times(track: Track) -> Iterator[tuple[str, str, float]]:
  """(kind, label, relative time) of the events and places of a track."""
  for event in track.events:
    time = min(event.t0 / track.duration, 1.0)
    if event.label:
      yield "event", event.label, time
    if event.place:
      yield "place", event.place, time


def _add_counts(track: Track, histogram: Counter[int], labels: dict[str, dict[str, str]]) -> None:
  """Adds the label counts of an exhaustively annotated track."""
  histogram[0] += 1  # One question about a label that does not happen is possible.
  pool = labels.setdefault(_activity(track), {})
  for counted in label_counts(track):
    histogram[counted.count] += 1
    if len(pool) < MOST_ABSENT:
      pool.setdefault(normalised_label(counted.label), counted.label)


def _balanced(histogram: Mapping[int, int]) -> dict[str, float]:
  """Count -> the share to keep for even counts in a window.

  The windows are 0-3, 4-7, …: the right number is then at each place of its window equally often,
  and no number is more likely than another.
  """
  shares = {}
  for low in range(0, max(histogram, default=0) + 1, OPTIONS):
    window = range(low, low + OPTIONS)
    least = min(histogram.get(count, 0) for count in window)
    for count in window:
      if least:
        shares[str(count)] = round(least / histogram[count], 9)
  return shares
