# SPDX-License-Identifier: Apache-2.0
"""The samples of config.data, mixed from its manifests, as a table on disk."""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import time
from typing import Any

from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.quarantine import read_quarantine
from data_pipelines.manifest.report import BadRecord, ManifestError, ManifestReport
from data_pipelines.mapped import (
  in_temporary_folder,
  keep_arrays,
  one_builder,
  read_facts,
  write_arrays,
)
from data_pipelines.media import remote
from data_pipelines.packing.fingerprint import digest_facts
from data_pipelines.packing.sample_table import ManifestFile, SampleTable, manifest_file
from data_pipelines.packing.table_builder import TableBuilder
from filax import files, settings

_VERSION = 6  # Version of the table; tables of another version are built again.
_DIGESTS = "manifests.json"  # Digests of manifests by path, size and time of change.
_LISTED = 20  # Missing manifests in a message.
_SETTLED = 2.0  # Seconds after which a file's time of change tells it from a later version.


@dataclasses.dataclass(frozen=True)
class Corpus:
  """The samples in mixture order, with their origins."""

  samples: SampleTable
  report: ManifestReport  # Accepted and rejected records.
  excluded: int  # Samples excluded by config.data.exclude, by name or by medium.
  videos: bool  # Whether any sample shows a video.
  digest: str  # Digest of all inputs that decide the samples.
  manifests: Mapping[str, str]  # Manifest -> digest of its content.
  exclusions: frozenset[str]  # The names in config.data.exclude.

  @property
  def media(self) -> list[str]:
    """The distinct media, in the order of first use."""
    return self.samples.media


def read_corpus(data: Mapping[str, Any], seed: int, folder: str) -> Corpus:
  """The samples of config.data.train.

  Their table is kept in `folder`; with "" in a temporary one, for as long as the corpus is used.
  Raises ValueError for an invalid manifest.
  """
  settings.check_settings(dict(data=dict(train=data["train"])))
  _check_present([os.fspath(manifest) for manifest, _ in data["train"]])
  digests = _content_digests([str(manifest) for manifest, _ in data["train"]], folder)
  parts = []
  drawn = False
  for number, (manifest, strategy) in enumerate(data["train"]):
    parts.append((digests[str(manifest)], strategy, number))
    drawn |= strategy.startswith("random")
  exclusions = (
    read_quarantine(remote.local_path(data["exclude"])) if data["exclude"] else frozenset()
  )
  digest = digest_facts(manifests=parts, excluded=sorted(exclusions), seed=seed if drawn else None)
  table, facts = _table(data, seed, folder, digest, exclusions)
  return Corpus(
    samples=table,
    report=_report(facts["report"]),
    excluded=facts["excluded"],
    videos=facts["videos"],
    digest=digest,
    manifests=digests,
    exclusions=exclusions,
  )


def _check_present(manifests: Sequence[str]) -> None:
  """Raises ValueError, with a list, if some of several manifests are missing."""
  missing = []
  for manifest in manifests:
    is_plain = "://" not in manifest and ".array_record" not in os.path.basename(manifest)
    if is_plain and not os.path.lexists(manifest):
      missing.append(one_line(manifest))
  if not missing or len(manifests) == 1:
    return
  listed = ", ".join(missing[:_LISTED])
  if len(missing) > _LISTED:
    listed += f" and {len(missing) - _LISTED} more"
  raise ManifestError(
    f"{len(missing)} of {len(manifests)} manifests of config.data.train cannot be read, they are "
    f"missing: {listed}. `filax data status --config F` says where to get them; the config "
    "argument mixture=present trains on the rest."
  )


def _table(
  data: Mapping[str, Any], seed: int, folder: str, digest: str, exclusions: frozenset[str]
) -> tuple[SampleTable, dict[str, Any]]:
  """The table of a mixture and its facts, found or built."""
  entries = []
  for manifest, strategy in data["train"]:
    root = os.fspath(data["root"]) or os.path.dirname(os.fspath(manifest))
    entries.append((manifest_file(os.fspath(manifest), root), strategy))
  identity = [dataclasses.astuple(entry) for entry, _ in entries]
  label = digest_facts(version=_VERSION, digest=digest, manifests=identity)
  manifests = [entry for entry, _ in entries]
  if not folder:
    builder = _read_manifests(entries, seed, exclusions)
    return _temporary_table(manifests, builder), builder.facts()
  path = pathlib.Path(folder, f"samples-{label[:32]}")
  with one_builder(folder, "reads the manifests"):
    facts = read_facts(path, label)
    if facts is None:
      builder = _read_manifests(entries, seed, exclusions)
      facts = builder.facts()
      if not keep_arrays(path, builder.arrays(), facts, label):
        return _temporary_table(manifests, builder), facts
    return SampleTable(path, manifests), facts


def _temporary_table(manifests: Sequence[ManifestFile], builder: TableBuilder) -> SampleTable:
  """A table that is removed after its last use."""

  def build(folder: pathlib.Path) -> SampleTable:
    path = folder / "table"
    write_arrays(path, builder.arrays(), {}, "")
    return SampleTable(path, manifests)

  return in_temporary_folder("filax-samples-", build)


def _read_manifests(
  entries: Sequence[tuple[ManifestFile, str]], seed: int, exclusions: frozenset[str]
) -> TableBuilder:
  """Reads the records that the strategies of (manifest, strategy) take."""
  builder = TableBuilder(exclusions)
  for number, (manifest, strategy) in enumerate(entries):
    builder.add_manifest(manifest, strategy, seed + number)
  return builder


def _report(facts: Mapping[str, Any]) -> ManifestReport:
  bad = [BadRecord(**record) for record in facts["bad"]]
  return ManifestReport(**(dict(facts) | dict(bad=bad)))


def _content_digests(manifests: Sequence[str], folder: str) -> dict[str, str]:
  """sha256 of manifests by path; those of unchanged files are remembered."""
  cache = pathlib.Path(folder, _DIGESTS)
  known = (files.read_cache(cache, json.loads) if folder else None) or {}
  remembered = {}
  digests = {}
  for manifest in dict.fromkeys(manifests):
    key = _version_key(manifest)
    digests[manifest] = known.get(key) or _content_digest(manifest)
    if key and _version_key(manifest) == key:
      remembered[key] = digests[manifest]
  if folder and remembered.items() - known.items():
    files.write_cache(cache, json.dumps(known | remembered).encode())
  return digests


def _version_key(manifest: str) -> str:
  """Identifies a version of a file.

  "" for a file that changed just now, and for what is not a file.
  """
  with contextlib.suppress(OSError, ValueError):
    if remote.is_remote(manifest):
      size, version = remote.state(manifest)
      return f"{manifest} {size} {version}"
    facts = os.stat(manifest)
    if pathlib.Path(manifest).is_file() and time.time() - facts.st_mtime > _SETTLED:
      return f"{os.path.abspath(manifest)} {facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"
  return ""


def _content_digest(manifest: str) -> str:
  """sha256 of a manifest; for ArrayRecord shards, of their names and sizes.

  Raises ManifestError.
  """
  try:
    return _digest_of_content(manifest)
  except OSError as error:
    raise ManifestError(
      f"The manifest {one_line(manifest)} cannot be read: {error.strerror}. It is named in "
      "config.data.train."
    ) from error


def _digest_of_content(manifest: str) -> str:
  local = remote.local_path(manifest) if remote.is_file(manifest) else ""
  if local:
    with open(local, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  folder, stem = os.path.split(manifest)
  shards = []
  with contextlib.suppress(FileNotFoundError, NotADirectoryError):
    for name in sorted(remote.file_names(folder or ".")):
      if name.startswith(stem):
        size, _ = remote.state(os.path.join(folder, name))
        shards.append((name, size))
  return hashlib.sha256(repr(shards).encode()).hexdigest()
