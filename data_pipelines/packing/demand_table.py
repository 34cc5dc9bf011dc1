# SPDX-License-Identifier: Apache-2.0
"""Demand of all samples by epoch, cached on disk.

It is measured by encoding the samples' texts.
"""

from collections.abc import Sequence
import io
import pathlib
import sys
import time

import numpy as np

from data_pipelines.packing.demand import Demand
from data_pipelines.packing.sample_layout import Composer
from data_pipelines.sample import Sample
from filax import files

_PROGRESS_SECONDS = 2.0
_MOST_EPOCHS = 2  # Held in memory beside epoch 0.


class DemandTable:
  """`table(epoch)` -> Demand of every sample. Picklable.

  A measured epoch is cached in `folder` ("" = no cache) under `digest`, the hash of its inputs.
  """

  def __init__(self, composer: Composer, samples: Sequence[Sample], folder: str, digest: str):
    self.composer = composer
    self.samples = samples
    self.folder = folder
    self.digest = digest
    self._epochs: dict[int, Demand] = {}

  def __call__(self, epoch: int) -> Demand:
    if not self.composer.vary:
      epoch = 0
    if epoch not in self._epochs:
      self._forget_old_epochs()
      self._epochs[epoch] = self._remembered(epoch)
    return self._epochs[epoch]

  def _forget_old_epochs(self) -> None:
    """Makes room for one more epoch; epoch 0 stays."""
    while len(self._epochs) > _MOST_EPOCHS:
      oldest = next(epoch for epoch in self._epochs if epoch)
      del self._epochs[oldest]

  def _remembered(self, epoch: int) -> Demand:
    """The cached demand, measured again if its file is missing or damaged."""
    if not self.folder:
      return self._measured(epoch)
    path = pathlib.Path(self.folder) / f"sizes-{self.digest[:32]}-{epoch}.npy"
    label = f"{self.digest} {epoch}"
    files.remove_leftovers(self.folder)
    demand = files.read_cache(path, self._parsed, label)
    if demand is None:
      demand = self._measured(epoch)
      content = io.BytesIO()
      np.save(content, demand.columns())
      files.write_cache(path, content.getbuffer(), label)
    return demand

  def _parsed(self, content: bytes) -> Demand:
    """Parses the content of an .npy file.

    Raises ValueError for an array of another shape.
    """
    columns = np.load(io.BytesIO(content), allow_pickle=False)
    expected = self._empty().columns().shape
    if columns.dtype != np.int64 or columns.shape != expected:
      raise ValueError(f"it holds {columns.dtype} {columns.shape}, not int64 {expected}")
    return Demand.from_columns(columns)

  def _empty(self) -> Demand:
    return Demand.zeros(len(self.samples), self.composer.stages)

  def _measured(self, epoch: int) -> Demand:
    demand = self._empty()
    total = len(self.samples)
    start = time.monotonic()
    printed = start
    for number, sample in enumerate(self.samples):
      demand.put(number, self.composer.demand(sample, number, epoch))
      now = time.monotonic()
      if now - printed > _PROGRESS_SECONDS:
        printed = now
        done = number + 1
        remaining = (now - start) / done * (total - done)
        print(f"measured {done}/{total} samples, {remaining:.0f} s left", file=sys.stderr)
    return demand
