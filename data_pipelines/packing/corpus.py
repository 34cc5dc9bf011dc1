# SPDX-License-Identifier: Apache-2.0
"""The samples behind config.data: read from the mixture, and measured for the planner."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import io
import pathlib
import sys
import time

import numpy as np

from data_pipelines.manifest import llava
from data_pipelines.packing.planner import fingerprint
from data_pipelines.packing.rows import quarantined
from data_pipelines.packing.sample_layout import Composer
from data_pipelines.sample import Sample
from filax import files, settings

_SAY_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Samples in the order of the mixture. `report`: what reading came across; `excluded`: how many
  samples config.data.exclude names, or their media; `digest`: of all that decided the choice;
  `manifests`: the digest of each one's content; `exclusions`: what config.data.exclude names."""

  samples: tuple[Sample, ...]
  report: llava.Report
  excluded: int
  digest: str
  manifests: Mapping[str, str]
  exclusions: frozenset[str]


def read(data: Mapping, seed: int) -> Corpus:
  """The samples of config.data.train. Raises ValueError for a manifest that cannot be used."""
  settings.check(dict(data=dict(train=data["train"])))
  report, samples, facts = llava.Report(), [], []
  contents: dict[str, str] = {}
  for n, (manifest, strategy) in enumerate(data["train"]):
    samples += llava.load(manifest, strategy, data["root"], seed + n, report)
    contents[str(manifest)] = _content(manifest)
    facts.append((contents[str(manifest)], strategy, n))
  bad = quarantined(data["exclude"]) if data["exclude"] else frozenset()
  names = lambda s: {s.origin} | {scene.media for timeline in s.media for scene in timeline}
  kept = tuple(s for s in samples if not bad or bad.isdisjoint(names(s)))
  drawn = seed if any(strategy.startswith("random") for _, strategy in data["train"]) else None
  digest = fingerprint(manifests=facts, excluded=sorted(bad), seed=drawn)
  return Corpus(kept, report, len(samples) - len(kept), digest, contents, bad)


def _content(manifest: str) -> str:
  """sha256 of a manifest; of the index of an ArrayRecord's shards, their names and sizes."""
  path = pathlib.Path(manifest)
  if path.is_file():
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  shards = sorted((p.name, p.stat().st_size) for p in path.parent.glob(path.name + "*"))
  return hashlib.sha256(repr(shards).encode()).hexdigest()


class Sizes:
  """sizes(epoch) -> i64 [samples, columns]: what Composer.size says of every sample. Picklable.

  Measured by encoding the texts; remembered under `folder` ("" = not), as long as nothing changes
  that the sizes depend on (`digest`).
  """

  def __init__(self, composer: Composer, samples: Sequence[Sample], folder: str, digest: str):
    self.composer, self.samples, self.folder, self.digest = composer, samples, folder, digest
    self._known: dict[int, np.ndarray] = {}

  def __call__(self, epoch: int) -> np.ndarray:
    epoch = epoch if self.composer.vary else 0
    if epoch not in self._known:
      while len(self._known) > 2:
        del self._known[next(k for k in self._known if k)]  # Epoch 0 stays.
      self._known[epoch] = self._remembered(epoch)
    return self._known[epoch]

  def _remembered(self, epoch: int) -> np.ndarray:
    if not self.folder:
      return self._measured(epoch)
    path = pathlib.Path(self.folder) / f"sizes-{self.digest[:32]}-{epoch}.npy"
    label = f"{self.digest} {epoch}"
    files.remove_leftovers(self.folder)
    sizes = files.read_cache(path, self._parsed, label)
    if sizes is None:
      sizes = self._measured(epoch)
      content = io.BytesIO()
      np.save(content, sizes)
      files.write_cache(path, content.getbuffer(), label)
    return sizes

  def _parsed(self, content: bytes) -> np.ndarray:
    """Sizes i64 [samples, columns]. Raises ValueError for those of other samples."""
    sizes = np.load(io.BytesIO(content), allow_pickle=False)
    expected = (len(self.samples), self.composer.columns)
    if sizes.dtype != np.int64 or sizes.shape != expected:
      raise ValueError(f"it holds {sizes.dtype} {sizes.shape}, not int64 {expected}")
    return sizes

  def _measured(self, epoch: int) -> np.ndarray:
    sizes = np.zeros((len(self.samples), self.composer.columns), np.int64)
    began = said = time.monotonic()
    for n, sample in enumerate(self.samples):
      sizes[n] = self.composer.size(sample, n, epoch)
      if time.monotonic() - said > _SAY_SECONDS:
        said = time.monotonic()
        left = (said - began) / (n + 1) * (len(sizes) - n - 1)
        print(f"measured {n + 1}/{len(sizes)} samples, {left:.0f} s left", file=sys.stderr)
    return sizes
