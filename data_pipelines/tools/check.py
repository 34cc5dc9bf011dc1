# SPDX-License-Identifier: Apache-2.0
"""Checks a manifest before it is trained on: every bad record by file and line, and statistics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import concurrent.futures
import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from data_pipelines.manifest import llava
from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.reader import Bad, Report
from data_pipelines.media import frames as video
from data_pipelines.media.index import MediaIndex, media_of, timeline_duration
from data_pipelines.media.open import LIMITS, Limits
from data_pipelines.media.probe import Probe
from data_pipelines.sample import Sample, Scene

DECODE_SIZE = 16  # Pixels of the pictures that decoding makes: enough to notice damage.


@dataclasses.dataclass(frozen=True)
class Quantity:
  """One number of each sample (or video), for a histogram."""

  key: str
  title: str
  unit: str
  values: np.ndarray

  def figures(self) -> dict[str, float]:
    """count, sum, min, mean, median, p95 and max, without the rest for no values."""
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
class Result:
  """What is in a manifest, and what is wrong with it."""

  manifest: str
  report: Report  # report.bad holds records with bad media too; report.samples is what is left.
  media: int
  unreadable: Mapping[str, str]  # media -> why
  counts: Mapping[str, int]  # Samples with video, images or text only.
  quantities: Sequence[Quantity]

  def as_dict(self) -> dict[str, Any]:
    """The result for JSON."""
    return {
      "manifest": self.manifest,
      "samples": self.report.samples,
      "bad": [{"line": bad.line, "reason": bad.reason} for bad in self.report.bad],
      "media": self.media,
      "unreadable": dict(self.unreadable),
      "prepended": self.report.prepended,
      "surplus": self.report.surplus,
      "dropped_turns": self.report.dropped_turns,
      "counts": dict(self.counts),
      "statistics": {q.key: q.figures() for q in self.quantities},
    }

  def lines(self) -> Iterator[str]:
    """The result for a person: bad records first, each findable by its file and line."""
    yield from map(str, self.report.bad)
    yield (
      f"{one_line(self.manifest)}: {self.report.samples} good samples, {len(self.report.bad)} bad "
      f"records; {self.media} media, {len(self.unreadable)} unreadable."
    )
    yield "Samples: " + ", ".join(f"{count} with {kind}" for kind, count in self.counts.items())
    for count, what in (
      (self.report.prepended, "with media but no <image>, which was put in front"),
      (self.report.surplus, "with more <image> or <video> than media; the rest is ordinary text"),
      (self.report.dropped_turns, "whose first turn is not the human's and was dropped"),
    ):
      if count:
        yield f"Records {what}: {count}"
    yield f"{'':24}{'count':>9}{'min':>9}{'median':>9}{'mean':>9}{'p95':>9}{'max':>9}{'sum':>12}"
    for quantity in self.quantities:
      figures = quantity.figures()
      if figures["count"]:
        row = "".join(f"{figures[k]:9.5g}" for k in ("min", "median", "mean", "p95", "max"))
        yield f"{quantity.title:24}{figures['count']:9}{row}{figures['sum']:12.6g}"


def check(
  manifest: str | os.PathLike,
  root: str | os.PathLike = "",
  *,
  decode: bool = False,
  encode: Callable[[str], list[int]] | None = None,
  threads: int = 2,
  limits: Limits = LIMITS,
  progress=None,
) -> Result:
  """Reads a manifest, looks at all its media and takes statistics of the good samples.

  decode: read every frame, which finds damage inside files. encode: a tokenizer's, for lengths in
  tokens. Raises ManifestError if the manifest cannot be used.
  """
  report = Report()
  samples = list(llava.read(manifest, root, report))
  media = media_of(samples)
  probes = MediaIndex(threads=threads, limits=limits, progress=progress).probes(media)
  errors = {name: found.error for name, found in probes.items() if found.error}
  if decode:
    errors |= _damaged([name for name in media if name not in errors], threads, limits)
  good = []
  for sample in samples:
    if reason := _reason(sample, probes, errors):
      line = int(sample.origin.rsplit(":", 1)[1])
      report.bad.append(Bad(os.fspath(manifest), line, reason))
    else:
      good.append(sample)
  report.bad.sort(key=lambda bad: bad.line)
  report.samples = len(good)
  counts = {kind: sum(_kind(s) == kind for s in good) for kind in ("video", "images", "text only")}
  return Result(
    os.fspath(manifest), report, len(media), errors, counts, list(_quantities(good, probes, encode))
  )


def _scenes(sample: Sample) -> Iterator[Scene]:
  return (scene for timeline in sample.media for scene in timeline)


def _kind(sample: Sample) -> str:
  kinds = {scene.kind for scene in _scenes(sample)}
  return "text only" if not kinds else "images" if kinds == {"image"} else "video"


def _reason(sample: Sample, probes: Mapping[str, Probe], errors: Mapping[str, str]) -> str:
  """Why a sample's media cannot be used, "" if they can."""
  for scene in _scenes(sample):
    found = probes[scene.media]
    if scene.media in errors:
      return errors[scene.media]
    if scene.kind == "video" and found.duration and scene.t0 >= found.duration:
      return (
        f"{scene.media}: lasts {found.duration:.2f} s, but the record begins at {scene.t0:g} s."
      )
    if scene.kind == "image" and found.frames > 1 and not scene.media.lower().endswith(".gif"):
      return f"{scene.media}: is a video, but the record shows it as an image."
  return ""


def _damaged(names: Sequence[str], threads: int, limits: Limits) -> dict[str, str]:
  """media -> error of those that cannot be decoded to the end."""

  def error(name: str) -> str:
    try:
      for _ in video.walk(name, DECODE_SIZE, limits=limits):
        pass
    except video.MediaError as found:
      return str(found)
    return ""

  with concurrent.futures.ThreadPoolExecutor(max(1, threads)) as pool:
    found = zip(names, pool.map(error, names), strict=True)
    return {name: reason for name, reason in found if reason}


def _quantities(samples: Sequence[Sample], probes, encode) -> Iterator[Quantity]:
  """Durations of videos and lengths of texts."""

  def quantity(key, title, unit, values):
    return Quantity(key, title, unit, np.asarray(list(values), np.float64))

  texts = lambda role: (
    " ".join(turn.text for turn in sample.turns if turn.role == role) for sample in samples
  )
  moving = [t for s in samples for t in s.media if t[0].kind != "image"]
  files = dict.fromkeys(s.media for t in moving for s in t if s.kind == "video")
  yield quantity(
    "duration",
    "video duration",
    "seconds",
    (timeline_duration(timeline, probes) for timeline in moving),
  )
  yield quantity("fps", "frames a second", "1/s", (probes[name].fps for name in files))
  yield quantity(
    "question_words", "words of questions", "words", (len(text.split()) for text in texts("user"))
  )
  yield quantity(
    "answer_words", "words of answers", "words", (len(text.split()) for text in texts("assistant"))
  )
  if encode is not None:
    yield quantity(
      "question_tokens",
      "tokens of questions",
      "tokens",
      (len(encode(text)) for text in texts("user")),
    )
    yield quantity(
      "answer_tokens",
      "tokens of answers",
      "tokens",
      (len(encode(text)) for text in texts("assistant")),
    )


def write(result: Result, out: str | os.PathLike) -> list[str]:
  """Writes check.json and a histogram <quantity>.png of each quantity; returns their paths."""
  from matplotlib.figure import Figure  # A second to import; most checks draw nothing.

  out = pathlib.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  (out / "check.json").write_text(json.dumps(result.as_dict(), indent=2) + "\n")
  written = [str(out / "check.json")]
  for quantity in result.quantities:
    if len(quantity.values):
      figure = Figure(figsize=(6, 4), layout="constrained")
      axes = figure.add_subplot()
      axes.hist(quantity.values, bins=min(50, max(10, len(quantity.values) // 4)), color="#4878a8")
      median = float(np.median(quantity.values))
      axes.axvline(median, color="#c04040", linewidth=1, label=f"median {median:.4g}")
      axes.set(
        xlabel=f"{quantity.title} [{quantity.unit}]",
        ylabel="count",
        title=f"{len(quantity.values)} values, mean {quantity.values.mean():.4g}",
      )
      axes.legend()
      figure.savefig(out / f"{quantity.key}.png", dpi=120)
      written.append(str(out / f"{quantity.key}.png"))
  return written
