# SPDX-License-Identifier: Apache-2.0
"""Statistics of a manifest: video durations and rates, text lengths."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses

import numpy as np

from data_pipelines.media.probe import Probe, timeline_duration
from data_pipelines.sample import Sample, Timeline

FIGURES = ("min", "median", "mean", "p95", "max")


@dataclasses.dataclass(frozen=True)
class Quantity:
  """One number per sample (or video), for a histogram."""

  key: str
  title: str
  unit: str
  values: np.ndarray

  def figures(self) -> dict[str, float]:
    """count, sum, min, mean, median, p95 and max.

    Without values the count alone.
    """
    if not len(self.values):
      return {"count": 0}
    low, median, p95, high = np.percentile(self.values, (0, 50, 95, 100))
    return {
      "count": len(self.values),
      "sum": float(self.values.sum()),
      "min": float(low),
      "mean": float(self.values.mean()),
      "median": float(median),
      "p95": float(p95),
      "max": float(high),
    }


@dataclasses.dataclass(frozen=True)
class MeasuredSample:
  """A sample without its texts, and the lengths of these.

  Texts would take most of the memory: answers of a million samples are gigabytes.
  """

  sample: Sample  # Without turns.
  words: tuple[int, int]  # Of questions and of answers.
  tokens: tuple[int, int] | None = None


def measured_sample(
  sample: Sample, encode: Callable[[str], list[int]] | None = None
) -> MeasuredSample:
  """Measures the texts of a sample.

  With `encode`, a tokenizer's method, also their lengths in tokens.
  """
  question = _text(sample, "user")
  answer = _text(sample, "assistant")
  tokens = None
  if encode is not None:
    tokens = len(encode(question)), len(encode(answer))
  words = len(question.split()), len(answer.split())
  return MeasuredSample(dataclasses.replace(sample, turns=()), words, tokens)


def quantities(
  measured: Sequence[MeasuredSample], probes: Mapping[str, Probe]
) -> Iterator[Quantity]:
  """The quantities of samples."""
  videos = _video_timelines([entry.sample for entry in measured])
  durations = [timeline_duration(timeline, probes) for timeline in videos]
  yield _quantity("duration", "video duration", "seconds", durations)
  rates = [probes[name].fps for name in _video_files(videos)]
  yield _quantity("fps", "frames a second", "1/s", rates)
  yield from _text_lengths([entry.words for entry in measured], "words")
  tokens = [entry.tokens for entry in measured if entry.tokens is not None]
  if tokens:
    yield from _text_lengths(tokens, "tokens")


def _text_lengths(lengths: Sequence[tuple[int, int]], unit: str) -> Iterator[Quantity]:
  """Lengths of questions and of answers, in words or tokens."""
  for column, name in enumerate(("question", "answer")):
    values = [pair[column] for pair in lengths]
    yield _quantity(f"{name}_{unit}", f"{unit} of {name}s", unit, values)


def _quantity(
  key: str,
  title: str,
  unit: str,
  values: Sequence[float],
) -> Quantity:
  array = np.asarray(values, np.float64)
  return Quantity(key, title, unit, array)


def _text(sample: Sample, role: str) -> str:
  """The turns of a role, joined by spaces."""
  return " ".join(turn.text for turn in sample.turns if turn.role == role)


def _video_timelines(samples: Sequence[Sample]) -> list[Timeline]:
  videos = []
  for sample in samples:
    videos += [timeline for timeline in sample.media if timeline[0].kind != "image"]
  return videos


def _video_files(timelines: Sequence[Timeline]) -> list[str]:
  """The distinct video files of timelines, in order of first use."""
  names: dict[str, None] = {}
  for timeline in timelines:
    for scene in timeline:
      if scene.kind == "video":
        names[scene.media] = None
  return list(names)
