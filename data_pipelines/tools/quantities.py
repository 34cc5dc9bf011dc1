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


def quantities(
  samples: Sequence[Sample],
  probes: Mapping[str, Probe],
  encode: Callable[[str], list[int]] | None,
) -> Iterator[Quantity]:
  """The quantities of samples.

  With `encode`, a tokenizer's method, also lengths in tokens.
  """
  videos = _video_timelines(samples)
  durations = [timeline_duration(timeline, probes) for timeline in videos]
  yield _quantity("duration", "video duration", "seconds", durations)
  rates = [probes[name].fps for name in _video_files(videos)]
  yield _quantity("fps", "frames a second", "1/s", rates)
  questions = _texts(samples, "user")
  answers = _texts(samples, "assistant")
  yield from _text_lengths(questions, answers, "words", str.split)
  if encode is not None:
    yield from _text_lengths(questions, answers, "tokens", encode)


def _text_lengths(
  questions: Sequence[str],
  answers: Sequence[str],
  unit: str,
  divide: Callable[[str], list],
) -> Iterator[Quantity]:
  """Lengths of questions and of answers, in words or tokens."""
  for name, texts in (("question", questions), ("answer", answers)):
    lengths = [len(divide(text)) for text in texts]
    yield _quantity(f"{name}_{unit}", f"{unit} of {name}s", unit, lengths)


def _quantity(
  key: str,
  title: str,
  unit: str,
  values: Sequence[float],
) -> Quantity:
  array = np.asarray(values, np.float64)
  return Quantity(key, title, unit, array)


def _texts(samples: Sequence[Sample], role: str) -> list[str]:
  """The turns of a role in each sample, joined by spaces."""
  texts = []
  for sample in samples:
    turns = [turn.text for turn in sample.turns if turn.role == role]
    texts.append(" ".join(turns))
  return texts


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
