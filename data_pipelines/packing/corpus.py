# SPDX-License-Identifier: Apache-2.0
"""The samples behind config.data, as its mixture takes them from the manifests."""

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
  """Samples in the order of the mixture."""

  samples: tuple[Sample, ...]
  report: llava.ManifestReport  # Of reading the manifests.
  excluded: int  # Samples that config.data.exclude names, or whose media it names.
  digest: str  # Of all that decided the choice.
  manifests: Mapping[str, str]  # Manifest -> digest of its content.
  exclusions: frozenset[str]  # The names in config.data.exclude.


def read_corpus(data: Mapping[str, Any], seed: int) -> Corpus:
  """The samples of config.data.train. Raises ValueError for a manifest that cannot be used."""
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
  """sha256 of a manifest; of an ArrayRecord's shards, that of their names and sizes."""
  path = pathlib.Path(manifest)
  if path.is_file():
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  shards = sorted((shard.name, shard.stat().st_size) for shard in path.parent.glob(path.name + "*"))
  return hashlib.sha256(repr(shards).encode()).hexdigest()
