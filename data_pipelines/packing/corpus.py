# SPDX-License-Identifier: Apache-2.0
"""The samples of config.data, mixed from its manifests."""

from collections.abc import Mapping
import dataclasses
import hashlib
import pathlib
from typing import Any

from data_pipelines.manifest import llava
from data_pipelines.manifest.quarantine import read_quarantine
from data_pipelines.packing.fingerprint import digest_facts
from data_pipelines.sample import Sample
from filax import settings


@dataclasses.dataclass(frozen=True)
class Corpus:
  """The samples in mixture order, with their origins."""

  samples: tuple[Sample, ...]
  report: llava.ManifestReport  # Accepted and rejected records.
  excluded: int  # Samples excluded by config.data.exclude, by name or by medium.
  digest: str  # Of every input that decides the samples.
  manifests: Mapping[str, str]  # Manifest -> digest of its content.
  exclusions: frozenset[str]  # The names in config.data.exclude.


def read_corpus(data: Mapping[str, Any], seed: int) -> Corpus:
  """Reads the samples of config.data.train.

  Raises ValueError for an invalid manifest.
  """
  settings.check_settings(dict(data=dict(train=data["train"])))
  report = llava.ManifestReport()
  samples = []
  digests = {}
  parts = []
  drawn = False
  for number, (manifest, strategy) in enumerate(data["train"]):
    samples += llava.load_manifest(manifest, strategy, data["root"], seed + number, report)
    digest = _content_digest(manifest)
    digests[str(manifest)] = digest
    parts.append((digest, strategy, number))
    drawn |= strategy.startswith("random")
  exclusions = read_quarantine(data["exclude"]) if data["exclude"] else frozenset()
  kept = samples
  if exclusions:
    kept = [sample for sample in samples if exclusions.isdisjoint(_names(sample))]
  return Corpus(
    samples=tuple(kept),
    report=report,
    excluded=len(samples) - len(kept),
    digest=digest_facts(manifests=parts, excluded=sorted(exclusions), seed=seed if drawn else None),
    manifests=digests,
    exclusions=exclusions,
  )


def _names(sample: Sample) -> set[str]:
  """The names by which a quarantine may list a sample."""
  names = {sample.origin}
  for timeline in sample.media:
    names.update(scene.media for scene in timeline)
  return names


def _content_digest(manifest: str) -> str:
  """sha256 of a manifest; for ArrayRecord shards, of their names and sizes."""
  path = pathlib.Path(manifest)
  if path.is_file():
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  shards = sorted((shard.name, shard.stat().st_size) for shard in path.parent.glob(path.name + "*"))
  return hashlib.sha256(repr(shards).encode()).hexdigest()
