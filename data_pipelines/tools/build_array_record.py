# SPDX-License-Identifier: Apache-2.0
"""Packs a manifest and its media into ArrayRecord data sets.

  out/media/1.0.0/media-train.array_record-…      features key, media (the bytes of a file)
  out/samples/1.0.0/samples-train.array_record-…  features id, sample (a record as JSON)
  out/manifest.jsonl                              the same records as text

TFDS writes the data sets, without TensorFlow. A medium shared by several records is stored once.
Its key is its path in the manifest, and records name it "….array_record#key": the data set of
samples and manifest.jsonl are both manifests. Building runs in this process or, with the `beam`
extra, on a runner of Apache Beam.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import sys
from typing import Any, BinaryIO, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines import mapped
from data_pipelines.manifest import llava, shapes
from data_pipelines.manifest.json_text import LocatedRecord
from data_pipelines.manifest.media_keys import MEDIA as MEDIA_KEYS
from data_pipelines.manifest.media_keys import PLURALS
from data_pipelines.manifest.patterns import manifest_paths
from data_pipelines.manifest.reader import BadRecord, ManifestReport, RecordError, located_records
from data_pipelines.manifest.written_records import llava_record
from data_pipelines.media import array_record, remote
from data_pipelines.media.open import MediaError
from data_pipelines.tools.transcode import Proxy, stored_content
from filax import files

MEDIA = "media/1.0.0/media-train.array_record"
SAMPLES = "samples/1.0.0/samples-train.array_record"
MANIFEST = "manifest.jsonl"

Record = Mapping[str, Any]
Example = tuple[int, Mapping[str, Any]]  # A number, and features.


@dataclasses.dataclass(frozen=True)
class BuiltDataSet:
  """The result of a build; report.bad lists the omitted records."""

  samples: int
  media: int
  bytes: int  # Bytes of the media.
  report: ManifestReport


def build_data_set(
  manifest: str | os.PathLike,
  out: str | os.PathLike,
  *,
  root: str | os.PathLike = "",
  proxy: Proxy | None = None,
  beam: str = "",
) -> BuiltDataSet:
  """Writes the data sets of a manifest to the folder `out`.

  manifest: a name, or a pattern of files in one folder, as in config.data.train. proxy: the
  smaller copies of long videos. beam: the name of a runner, "" for this process. Bad records and
  records with unreadable media are omitted. Raises ManifestError for an unusable manifest, and
  ValueError if `out` contains a data set, Beam is missing or no record is usable.
  """
  if remote.is_remote(out):
    raise ValueError(f"--out {out} is in a bucket. Build in a folder here, and copy it there.")
  out = pathlib.Path(out)
  report = ManifestReport()
  _check_unused(out)
  config = _download_config(beam)
  manifests = manifest_paths(manifest)
  folder = os.fspath(root) or _folder_of(manifests)
  # Records are read twice, so that memory holds none but the names of their media.
  names, has_records = _distinct_media(_good_records(manifests, folder, report))
  if not has_records:
    raise ValueError(f"The manifest {os.fspath(manifest)} has no good record to build from.")
  errors: dict[str, str] = {}
  stored: Collection[str] = ()
  with contextlib.ExitStack() as stack:
    stack.enter_context(mapped.one_builder(out, f"writes {out}"))
    _check_unused(out)  # Again: the other process may have finished.
    stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # TFDS prints progress.
    if names:
      examples = functools.partial(_media_examples, folder, proxy, errors)
      media = MediaBuilder(names, examples, beam, data_dir=out)
      media.download_and_prepare(download_config=config)
      array_record.write_keys(out / MEDIA)
      stored = array_record.keys(out / MEDIA) or ()
    again = _good_records(manifests, folder, ManifestReport())
    kept = _complete_records(again, stored, errors, report)
    file = stack.enter_context(files.write_atomically(out / MANIFEST))
    samples = SampleBuilder(_write_records(kept, file, report), data_dir=out)
    samples.download_and_prepare(download_config=_download_config(""))
  shards = array_record.shards(out / MEDIA) if stored else []
  return BuiltDataSet(
    samples=report.samples,
    media=len(stored),
    bytes=sum(map(os.path.getsize, shards)),
    report=report,
  )


def _check_unused(out: pathlib.Path) -> None:
  """Raises ValueError if a folder holds a data set."""
  for name in ("media", "samples", MANIFEST):
    if (out / name).exists():
      raise ValueError(f"{out} already holds a data set. Name another folder with --out.")


def _write_records(
  kept: Iterable[Record], manifest: BinaryIO, report: ManifestReport
) -> Iterator[Record]:
  """Writes and counts records; gives them for the data set.

  The lines and the data set of samples name packed media from their own folders.
  """
  report.samples = 0
  for record in kept:
    line = json.dumps(_packed(record, MEDIA))
    manifest.write(line.encode() + b"\n")
    report.samples += 1
    yield _packed(record, f"../../{MEDIA}")


def _folder_of(manifests: Sequence[str]) -> str:
  """The folder of the manifests. Raises ValueError for several."""
  folders = {os.path.dirname(manifest) for manifest in manifests}
  if len(folders) > 1:
    raise ValueError(
      f"{manifests[0]} and {manifests[-1]} are in different folders. Name the folder of their "
      "media with --root."
    )
  return folders.pop()


def _good_records(
  manifests: Sequence[str],
  folder: str,
  report: ManifestReport,
) -> Iterator[tuple[str, LocatedRecord, Record]]:
  """(manifest, place, record) of the valid records."""
  for manifest in manifests:
    for located in located_records(manifest):
      record = located.record
      try:
        sample = llava.parse_record(record, "", folder, report)
      except RecordError as error:
        report.bad.append(BadRecord(manifest, located.line, str(error), located.nth))
        continue
      if shapes.other_reader(record) is not None:
        record = llava_record(sample, functools.partial(_name_below, folder))
      yield manifest, located, record


def _name_below(folder: str, media: str) -> str:
  """The name of a medium, relative to `folder`."""
  return media.removeprefix(os.path.join(folder, "")) if folder else media


def _complete_records(
  good: Iterable[tuple[str, LocatedRecord, Record]],
  stored: Collection[str],
  errors: Mapping[str, str],
  report: ManifestReport,
) -> Iterator[Record]:
  """The records with all media stored."""
  for manifest, located, record in good:
    missing = [name for name in _media_names(record) if name not in stored]
    if not missing:
      yield record
      continue
    name = missing[0]
    # A Beam runner works elsewhere, so why it failed is in its own log.
    reason = errors.get(name, f"{name}: could not be stored.")
    report.bad.append(BadRecord(manifest, located.line, reason, located.nth))


def _distinct_media(
  good: Iterable[tuple[str, LocatedRecord, Record]],
) -> tuple[list[str], bool]:
  """(media of all records, whether there are any).

  Media are in the order of first use.
  """
  names: dict[str, None] = {}
  has_records = False
  for _, _, record in good:
    has_records = True
    names.update(dict.fromkeys(_media_names(record)))
  return list(names), has_records


def _media_names(record: Record) -> list[str]:
  """The names of a record's media, as written."""
  names: list[str] = []

  def collect(name: str) -> str:
    names.append(name)
    return name

  _renamed(record, collect)
  return names


def _packed(record: Record, data_set: str) -> Record:
  """A copy of a record with media names of a data set."""
  return _renamed(record, lambda name: f"{data_set}#{name}")


def _renamed(record: Record, rename: Callable[[str], str]) -> Record:
  """A copy of a record with other names for its media."""

  def rename_all(value):
    if isinstance(value, list):
      return [rename_all(entry) for entry in value]
    if isinstance(value, Mapping):
      return {**value, "media": rename(value["media"])}
    return rename(value) if value else value

  renamed = dict(record)
  for key in (*MEDIA_KEYS, *PLURALS.values()):
    if record.get(key):
      renamed[key] = rename_all(record[key])
  return renamed


def _media_examples(
  folder: str,
  proxy: Proxy | None,
  errors: dict[str, str],
  item: tuple[int, str],
) -> list[Example]:
  """[(number, example)] of a medium (number, name).

  An unreadable medium gives [] and is added to `errors`.
  """
  number, name = item
  path = os.path.join(folder, name)
  try:
    content = stored_content(path, proxy)
  except MediaError as error:
    errors[name] = str(error)
    return []
  return [(number, {"key": name, "media": content})]


def _download_config(beam: str) -> tfds.download.DownloadConfig:
  if beam and importlib.util.find_spec("apache_beam") is None:
    raise ValueError("--beam needs Apache Beam: pip install 'filax[beam]'.")
  return tfds.download.DownloadConfig(try_download_gcs=False, beam_runner=beam or None)


class _Builder(
  tfds.core.GeneratorBasedBuilder,
  skip_registration=True,  # type: ignore[call-arg]  # TFDS ships no types.
):
  """The base of both data sets.

  One split, in the order of the manifest.
  """

  VERSION = tfds.core.Version("1.0.0")
  code_path = None  # TFDS would look for this file with a package that it does not declare.
  FEATURES: ClassVar[Mapping[str, Any]]

  def __init_subclass__(cls, **options):
    super().__init_subclass__(skip_registration=True, **options)

  def __init__(self, **options):
    super().__init__(file_format="array_record", **options)

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features.FeaturesDict(self.FEATURES)
    return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}


class MediaBuilder(_Builder):
  """One example a medium: its key and the bytes of its file."""

  name = "media"
  FEATURES: ClassVar = {
    "key": tfds.features.Text(),
    "media": tfds.features.Tensor(shape=(), dtype=np.object_),
  }

  def __init__(
    self,
    names: list[str],
    examples: Callable,
    beam: str,
    **options,
  ):
    self._names = names
    self._examples = examples
    self._beam = beam
    super().__init__(**options)

  def _generate_examples(self):
    items = list(enumerate(self._names))
    if not self._beam:
      return (example for item in items for example in self._examples(item))
    import apache_beam

    return apache_beam.Create(items) | apache_beam.FlatMap(self._examples)


class SampleBuilder(_Builder):
  """One example a record, as JSON."""

  name = "samples"
  FEATURES: ClassVar = {
    "id": tfds.features.Text(),
    "sample": tfds.features.Text(),
  }

  def __init__(self, packed: Iterable[Record], **options):
    self._packed = packed
    super().__init__(**options)

  def _generate_examples(self):
    for number, record in enumerate(self._packed):
      name = str(record.get("id", number))
      yield number, {"id": name, "sample": json.dumps(record)}
