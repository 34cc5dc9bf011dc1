# SPDX-License-Identifier: Apache-2.0
"""Demand of all samples by epoch, cached on disk.

It is measured by encoding the samples' texts.
"""

from collections.abc import Sequence
import dataclasses
import io
import pathlib
import time

import numpy as np

from data_pipelines.chunk_pool import ChunkPool, default_processes
from data_pipelines.mapped import map_cached_array, one_builder
from data_pipelines.packing.demand import Demand
from data_pipelines.packing.sample_layout import Composer
from data_pipelines.sample import Sample
from data_pipelines.unused_files import mark_used
from filax import files
from filax.progress import ProgressLine

CHUNK = 1000  # Samples measured at a time.
_MANY = 8 * CHUNK  # Samples from which several processes measure.
_MOST_EPOCHS = 2  # Held in memory beside epoch 0.


class DemandTable:
  """`table(epoch)` -> Demand of every sample. It can be pickled.

  A measured epoch is cached in `folder` ("" = no cache) under `digest`, the hash of its inputs.
  """

  def __init__(self, composer: Composer, samples: Sequence[Sample], folder: str, digest: str):
    self.composer = composer
    self.samples = samples
    self.folder = folder
    self.digest = digest
    self._epochs: dict[int, Demand] = {}

  def __getstate__(self):
    return dict(self.__dict__) | dict(_epochs={})  # Another process maps what is on disk.

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
    with one_builder(self.folder, "measures the texts"):
      columns = map_cached_array(path, label)
      if columns is not None and self._is_demand(path, columns):
        mark_used(path)
        return Demand.from_columns(columns)
      demand = self._measured(epoch)
      content = io.BytesIO()
      np.save(content, demand.columns())
      written = files.write_cache(path, content.getbuffer(), label)
    columns = map_cached_array(path, label) if written else None
    return demand if columns is None else Demand.from_columns(columns)

  def _is_demand(self, path: pathlib.Path, columns: np.ndarray) -> bool:
    """Whether an array has the shape of this table; reports another one."""
    expected = Demand.zeros(0, self.composer.stages).columns()
    shape = (len(self.samples), expected.shape[1])
    if columns.dtype == np.int64 and columns.shape == shape:
      return True
    reason = f"it holds {columns.dtype} {columns.shape}, not int64 {shape}"
    files.report_damage(path, ValueError(reason))
    return False

  def _measured(self, epoch: int) -> Demand:
    total = len(self.samples)
    columns = np.zeros((total, Demand.zeros(0, self.composer.stages).columns().shape[1]), np.int64)
    ranges = [(first, min(first + CHUNK, total)) for first in range(0, total, CHUNK)]
    processes = default_processes() if total > _MANY else 1
    progress = _Progress(total)
    measurer = ChunkMeasurer(self.composer, self.samples, epoch)
    with ChunkPool(measurer, processes) as pool, progress.line:
      for (first, stop), part in zip(ranges, pool.map(ranges), strict=True):
        columns[first:stop] = part
        progress.count_samples(stop)
    return Demand.from_columns(columns)


@dataclasses.dataclass(frozen=True)
class ChunkMeasurer:
  """Measures a range of samples: (first, stop) -> demand columns.

  It can be pickled.
  """

  composer: Composer
  samples: Sequence[Sample]
  epoch: int

  def __call__(self, numbers: tuple[int, int]) -> np.ndarray:
    first, stop = numbers
    samples = [self.samples[number] for number in range(first, stop)]
    demands = self.composer.demands(samples, first, self.epoch)
    return Demand.of_samples(demands, self.composer.stages).columns()


class _Progress:
  """Samples measured and remaining time."""

  def __init__(self, total: int):
    self._total = total
    self._began = time.monotonic()
    self.line = ProgressLine(total)

  def count_samples(self, done: int) -> None:
    """Shows that this many samples are measured."""
    seconds = (time.monotonic() - self._began) / done * (self._total - done)
    self.line.show(done, lambda: f"measured {done}/{self._total} samples, {seconds:.0f} s left")
