# SPDX-License-Identifier: Apache-2.0
"""Reports which parts of a mixture are present: samples, hours, and where to get the rest."""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import itertools
import os
from typing import Any, TextIO

from data_pipelines.manifest import llava
from data_pipelines.manifest.reader import located_records, select_records
from data_pipelines.manifest.report import ManifestError, ManifestReport, RecordError
from data_pipelines.media.index import MediaIndex
from data_pipelines.media.probe import Probe
from filax.progress import WorkProgress

UNKNOWN = "unknown"
_HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class ExpectedManifest:
  """A manifest of a mixture, and what is published about it."""

  path: str
  strategy: str = "all"
  published: str = UNKNOWN  # Samples of the whole file, such as "6901" or "40k".
  source: str = UNKNOWN
  annotations: str = UNKNOWN  # Where to get the file.
  media: str = UNKNOWN  # Where to get its media.
  licence: str = UNKNOWN


@dataclasses.dataclass(frozen=True)
class MediaHours:
  """Hours of the distinct videos of a manifest."""

  hours: float
  media: int
  known: int  # Media whose facts are known.
  unreadable: int
  bad: int  # Bad records of the whole manifest, whose media are not counted.


@dataclasses.dataclass(frozen=True)
class ManifestStatus:
  """What is there of a manifest."""

  expected: ExpectedManifest
  present: bool
  error: str = ""  # Why a present file cannot be used.
  records: int = 0
  damaged: int = 0  # Records that are not JSON.
  taken: int = 0  # Records that the strategy takes.
  media: MediaHours | None = None  # None: not looked at.


@dataclasses.dataclass(frozen=True)
class MixtureStatus:
  """The manifests of a mixture."""

  title: str
  manifests: Sequence[ManifestStatus]

  @property
  def present(self) -> list[ManifestStatus]:
    """The manifests that can be used."""
    return list(filter(_is_usable, self.manifests))

  @property
  def missing(self) -> list[ManifestStatus]:
    """The manifests that are not there, or cannot be used."""
    return list(itertools.filterfalse(_is_usable, self.manifests))

  @property
  def samples(self) -> int:
    """Records that the strategies take of the manifests that can be used."""
    return sum(status.taken for status in self.present)

  def as_dict(self) -> dict[str, Any]:
    """The status for JSON."""
    return dict(
      title=self.title,
      manifests=[dataclasses.asdict(status) for status in self.manifests],
      present=len(self.present),
      missing=len(self.missing),
      samples=self.samples,
      hours=self._hours(),
    )

  def lines(self) -> Iterator[str]:
    """The status as text: what is present, then what is missing."""
    total = len(self.manifests)
    present = self.present
    yield f"{self.title}: {len(present)} of {total} manifests present, {self.samples:,} samples"
    for status in self.present:
      yield "  " + _present_line(status)
    hours = self._hours()
    if hours is not None:
      yield f"  {hours:,.1f} hours of video in all, as far as facts are known"
    if self.missing:
      yield f"Missing: {len(self.missing)}"
    yield from _missing_lines(self.missing)

  def _hours(self) -> float | None:
    hours = None
    for status in self.present:
      if status.media is not None:
        hours = (hours or 0.0) + status.media.hours
    return hours


def _is_usable(status: ManifestStatus) -> bool:
  return status.present and not status.error


def mixture_status(
  title: str,
  expected: Iterable[ExpectedManifest],
  *,
  root: str = "",
  seed: int = 0,
  index: MediaIndex | None = None,
  probe: bool = False,
  progress: TextIO | None = None,
) -> MixtureStatus:
  """Counts the samples of the manifests that are there.

  root: the folder of the media; "" = each manifest's own.
  index: where hours are looked up; None for no hours.
  probe: whether media without known facts are opened.
  progress: the stream for lines with count and rate; None for none.
  """
  statuses = []
  with WorkProgress("records", out=progress) as work:
    for number, manifest in enumerate(expected):
      statuses.append(_manifest_status(manifest, root, seed + number, index, probe, work))
  return MixtureStatus(title, statuses)


def _manifest_status(
  expected: ExpectedManifest,
  root: str,
  seed: int,
  index: MediaIndex | None,
  probe: bool,
  work: WorkProgress,
) -> ManifestStatus:
  if not os.path.exists(expected.path) and ".array_record" not in expected.path:
    return ManifestStatus(expected, present=False)
  records = 0
  damaged = 0
  try:
    for located in located_records(expected.path):
      records += 1
      damaged += isinstance(located.record, RecordError)
      work.count_one()
    taken = len(select_records(records, expected.strategy, seed))
    media = None if index is None else _media_hours(expected.path, root, index, probe)
  except ManifestError as error:
    return ManifestStatus(expected, present=os.path.exists(expected.path), error=str(error))
  return ManifestStatus(
    expected, present=True, records=records, damaged=damaged, taken=taken, media=media
  )


def _media_hours(manifest: str, root: str, index: MediaIndex, probe: bool) -> MediaHours:
  """The hours of all videos that a manifest names, each counted once."""
  names: dict[str, None] = {}
  report = ManifestReport()
  for sample in llava.read_manifest(manifest, root, report):
    for timeline in sample.media:
      for scene in timeline:
        names[scene.media] = None
  seconds = 0.0
  known = 0
  unreadable = 0
  for facts in _facts(list(names), index, probe):
    if facts is None:
      continue
    known += 1
    unreadable += bool(facts.error)
    seconds += facts.duration
  return MediaHours(seconds / _HOUR, len(names), known, unreadable, len(report.bad))


def _facts(media: Sequence[str], index: MediaIndex, probe: bool) -> Iterator[Probe | None]:
  """The facts of media in order; None where they are not known."""
  if probe:
    for _, facts in index.each(media):
      yield facts
  else:
    for name in media:
      yield index.last_facts(name)


def _present_line(status: ManifestStatus) -> str:
  expected = status.expected
  line = f"{expected.path} {expected.strategy}: {status.taken:,} of {status.records:,} records"
  if expected.published != UNKNOWN:
    line += f" (published: {expected.published})"
  if status.damaged:
    line += f", {status.damaged:,} damaged"
  media = status.media
  if media is not None:
    line += f"; {media.hours:,.2f} h, facts of {media.known:,} of {media.media:,} media known"
    if media.unreadable:
      line += f", {media.unreadable:,} unreadable"
    if media.bad:
      line += f"; {media.bad:,} bad records in the file"
  return line


def _missing_lines(missing: Sequence[ManifestStatus]) -> Iterator[str]:
  """The missing manifests by place, with licence and address."""
  places: dict[tuple[str, ...], list[ManifestStatus]] = {}
  for status in missing:
    expected = status.expected
    place = (expected.source, expected.licence, expected.annotations, expected.media)
    places.setdefault(place, []).append(status)
  for (source, licence, annotations, media), statuses in places.items():
    if source != UNKNOWN:
      yield f"  {source}, licence {licence}"
      yield f"    annotations: {annotations}"
      yield f"    media: {media}"
    for status in statuses:
      expected = status.expected
      reason = f" ({status.error})" if status.error else ""
      yield f"    {expected.path} {expected.strategy}, {expected.published} samples{reason}"
