# SPDX-License-Identifier: Apache-2.0
"""Checks manifests before training: bad records and statistics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import concurrent.futures
import dataclasses
import itertools
import json
import os
import pathlib
from typing import Any, TextIO

import numpy as np

from data_pipelines.manifest import llava
from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.patterns import manifest_paths
from data_pipelines.manifest.reader import BadRecord, ManifestError, ManifestReport
from data_pipelines.media import frames as video
from data_pipelines.media.container import media_kind
from data_pipelines.media.content import check_plays
from data_pipelines.media.index import MediaIndex, media_of
from data_pipelines.media.open import LIMITS, Limits, MediaError
from data_pipelines.media.pictures import is_picture, read_image
from data_pipelines.media.probe import Probe
from data_pipelines.sample import Sample, Scene
from data_pipelines.tools.quantities import FIGURES, Quantity, measured_sample, quantities
from filax.progress import WorkProgress

DECODE_SIZE = 16  # Pixels of decoded pictures, enough to detect damage.
_KINDS = ("video", "images", "text only")


@dataclasses.dataclass(frozen=True)
class CheckResult:
  """The contents of manifests, and their errors."""

  manifests: Sequence[str]
  report: ManifestReport  # bad includes records with bad media; samples counts the good ones.
  media: int
  unreadable: Mapping[str, str]  # Medium -> reason.
  counts: Mapping[str, int]  # Samples with video, images or text only.
  quantities: Sequence[Quantity]

  def as_dict(self) -> dict[str, Any]:
    """The result for JSON."""
    return {
      "manifests": list(self.manifests),
      "samples": self.report.samples,
      "bad": [dataclasses.asdict(bad) for bad in self.report.bad],
      "media": self.media,
      "unreadable": dict(self.unreadable),
      "prepended": self.report.prepended,
      "surplus": self.report.surplus,
      "dropped_turns": self.report.dropped_turns,
      "unread": self.report.unread,
      "counts": dict(self.counts),
      "statistics": {quantity.key: quantity.figures() for quantity in self.quantities},
    }

  def lines(self) -> Iterator[str]:
    """The result as text: first the bad records with file and line."""
    yield from map(str, self.report.bad)
    title = f"{len(self.manifests)} manifests"
    if len(self.manifests) == 1:
      title = one_line(self.manifests[0])
    yield (
      f"{title}: {self.report.samples} good samples, {len(self.report.bad)} bad records; "
      f"{self.media} media, {len(self.unreadable)} unreadable."
    )
    yield "Samples: " + ", ".join(f"{count} with {kind}" for kind, count in self.counts.items())
    corrections = (
      (self.report.prepended, "with media but no <image>, which was put in front"),
      (self.report.surplus, "with more <image> or <video> than media; the rest is ordinary text"),
      (self.report.dropped_turns, "whose first turn is not the human's and was dropped"),
    )
    for count, correction in corrections:
      if count:
        yield f"Records {correction}: {count}"
    yield from self.report.unread_sentences()
    yield from self._table()

  def _table(self) -> Iterator[str]:
    """The statistics, one quantity per line."""
    columns = "".join(f"{name:>9}" for name in ("count", *FIGURES))
    yield f"{'':24}{columns}{'sum':>12}"
    for quantity in self.quantities:
      figures = quantity.figures()
      if figures["count"]:
        columns = "".join(f"{figures[name]:9.5g}" for name in FIGURES)
        yield f"{quantity.title:24}{figures['count']:9}{columns}{figures['sum']:12.6g}"


def check_manifests(
  manifests: Sequence[str | os.PathLike],
  root: str | os.PathLike = "",
  *,
  decode: bool = False,
  encode: Callable[[str], list[int]] | None = None,
  threads: int = 2,
  limits: Limits = LIMITS,
  progress: TextIO | None = None,
) -> CheckResult:
  """Checks the records and media of manifests, with statistics.

  manifests: names, or patterns as in config.data.train. The statistics cover the good samples of
  all of them. decode: decode every frame, which finds damage inside
  files. encode: a tokenizer's method, for lengths in tokens. Raises ManifestError for an unusable
  manifest, and for one without any record.
  """
  report = ManifestReport()
  paths = list(itertools.chain.from_iterable(map(manifest_paths, manifests)))
  samples = []
  with WorkProgress("records", out=progress) as work:
    for path in paths:
      for sample in _samples(path, root, report):
        samples.append(measured_sample(sample, encode))
        work.count_one()
  media = media_of(entry.sample for entry in samples)
  probes = MediaIndex(threads=threads, limits=limits, progress=progress).probes(media)
  unreadable = {name: probe.error for name, probe in probes.items() if probe.error}
  if decode:
    readable = [name for name in media if name not in unreadable]
    unreadable |= _decoding_errors(readable, threads, limits, progress)
  good = []
  for entry in samples:
    reason = _fault(entry.sample, probes, unreadable)
    if reason:
      report.bad.append(BadRecord.at(entry.sample.origin, reason))
    else:
      good.append(entry)
  place = {path: number for number, path in enumerate(paths)}
  report.bad.sort(key=lambda bad: (place[bad.manifest], bad.line, bad.nth))
  report.samples = len(good)
  counts = dict.fromkeys(_KINDS, 0)
  for entry in good:
    counts[_media_kind(entry.sample)] += 1
  return CheckResult(
    manifests=paths,
    report=report,
    media=len(media),
    unreadable=unreadable,
    counts=counts,
    quantities=list(quantities(good, probes)),
  )


def _samples(manifest: str, root: str | os.PathLike, report: ManifestReport) -> Iterator[Sample]:
  """The samples of a manifest. Raises ManifestError for one without any record."""
  bad = len(report.bad)
  is_empty = True
  for sample in llava.read_manifest(manifest, root, report):
    is_empty = False
    yield sample
  if is_empty and len(report.bad) == bad:
    raise ManifestError(f"The manifest {one_line(manifest)} has no record.")


def _scenes(sample: Sample) -> Iterator[Scene]:
  for timeline in sample.media:
    yield from timeline


def _media_kind(sample: Sample) -> str:
  kinds = {scene.kind for scene in _scenes(sample)}
  if not kinds:
    return "text only"
  if kinds == {"image"}:
    return "images"
  return "video"


def _fault(sample: Sample, probes: Mapping[str, Probe], unreadable: Mapping[str, str]) -> str:
  """The error of a sample's media; "" for none."""
  for scene in _scenes(sample):
    probe = probes[scene.media]
    if scene.media in unreadable:
      return unreadable[scene.media]
    if scene.kind == "video" and probe.duration and scene.t0 >= probe.duration:
      return (
        f"{scene.media}: lasts {probe.duration:.2f} s, but the record begins at {scene.t0:g} s."
      )
    if scene.kind == "video" and probe.frames == 1 and not probe.duration:
      reason = _why_not_played(scene.media)
      if reason:
        return reason
    if scene.kind == "image" and probe.duration and not is_picture(scene.media):
      return f"{scene.media}: is a video, but the record shows it as an image."
  return ""


def _why_not_played(media: str) -> str:
  """The error of a picture as a video, "" for none."""
  try:
    check_plays(media)
  except MediaError as error:
    return str(error)
  return ""


def _decoding_errors(
  names: Sequence[str], threads: int, limits: Limits, progress: TextIO | None
) -> dict[str, str]:
  """Medium -> error, for media that fail to decode to the end."""

  def decoding_error(name: str) -> str:
    try:
      if media_kind(name) == "image":  # An animation may be meant as a picture.
        read_image(name, limits=limits)
        return ""
      for _ in video.walk(name, DECODE_SIZE, limits=limits):
        pass
    except video.MediaError as error:
      return str(error)
    return ""

  errors = {}
  with (
    WorkProgress("decoded media", len(names), progress) as work,
    concurrent.futures.ThreadPoolExecutor(max(1, threads)) as pool,
  ):
    for name, error in zip(names, pool.map(decoding_error, names), strict=True):
      work.count_one()
      if error:
        errors[name] = error
  return errors


def write_report(result: CheckResult, out: str | os.PathLike) -> list[str]:
  """Writes check.json and a histogram <quantity>.png per quantity.

  Returns their paths.
  """
  out = pathlib.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  report = out / "check.json"
  report.write_text(json.dumps(result.as_dict(), indent=2) + "\n")
  written = [str(report)]
  for quantity in result.quantities:
    if len(quantity.values):
      picture = out / f"{quantity.key}.png"
      _draw_histogram(quantity, picture)
      written.append(str(picture))
  return written


def _draw_histogram(quantity: Quantity, path: pathlib.Path) -> None:
  from matplotlib.figure import Figure  # A second to import; most checks draw nothing.

  values = quantity.values
  figure = Figure(figsize=(6, 4), layout="constrained")
  axes = figure.add_subplot()
  axes.hist(values, bins=min(50, max(10, len(values) // 4)), color="#4878a8")
  median = float(np.median(values))
  axes.axvline(median, color="#c04040", linewidth=1, label=f"median {median:.4g}")
  axes.set(
    xlabel=f"{quantity.title} [{quantity.unit}]",
    ylabel="count",
    title=f"{len(values)} values, mean {values.mean():.4g}",
  )
  axes.legend()
  figure.savefig(path, dpi=120)
