# SPDX-License-Identifier: Apache-2.0
"""The statistics of a manifest: durations and rates of its videos, lengths of its texts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses

import numpy as np

from data_pipelines.media.probe import Probe, timeline_duration
from data_pipelines.sample import Sample, Timeline

FIGURES = ("min", "median", "mean", "p95", "max")


@dataclasses.dataclass(frozen=True)
class Quantity:
  """One number of each sample (or video), for a histogram."""

  key: str
  title: str
  unit: str
  values: np.ndarray

  def figures(self) -> dict[str, float]:
    """count, sum, min, mean, median, p95 and max; without values the count alone."""
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
  """The quantities of samples; with `encode`, a tokenizer's, also lengths in tokens."""
  videos = _video_timelines(samples)
  rates = [probes[name].fps for name in _video_files(videos)]
  durations = [timeline_duration(timeline, probes) for timeline in videos]
  questions = _texts(samples, "user")
  answers = _texts(samples, "assistant")
  yield _quantity("duration", "video duration", "seconds", durations)
  yield _quantity("fps", "frames a second", "1/s", rates)
  yield _quantity("question_words", "words of questions", "words", _lengths(questions, str.split))
  yield _quantity("answer_words", "words of answers", "words", _lengths(answers, str.split))
  if encode is None:
    return
  yield _quantity("question_tokens", "tokens of questions", "tokens", _lengths(questions, encode))
  yield _quantity("answer_tokens", "tokens of answers", "tokens", _lengths(answers, encode))


def _quantity(key: str, title: str, unit: str, values: Iterable[float]) -> Quantity:
  return Quantity(key, title, unit, np.asarray(list(values), np.float64))


def _lengths(texts: Sequence[str], divide: Callable[[str], list]) -> Iterator[int]:
  return (len(divide(text)) for text in texts)


def _texts(samples: Sequence[Sample], role: str) -> list[str]:
  """What a role says in each sample, as one text."""
  texts = []
  for sample in samples:
    turns = [turn.text for turn in sample.turns if turn.role == role]
    texts.append(" ".join(turns))
  return texts


def _video_timelines(samples: Sequence[Sample]) -> list[Timeline]:
  return [
    timeline for sample in samples for timeline in sample.media if timeline[0].kind != "image"
  ]


def _video_files(timelines: Sequence[Timeline]) -> list[str]:
  """The distinct video files of timelines, in order of first use."""
  names = {}
  for timeline in timelines:
    for scene in timeline:
      if scene.kind == "video":
        names[scene.media] = None
  return list(names)
