# SPDX-License-Identifier: Apache-2.0
"""The rows of an epoch, and their store on disk."""

from collections.abc import Callable
import dataclasses
import pathlib
import shutil

import numpy as np

from data_pipelines.mapped import keep_arrays, map_array, one_builder, read_facts
from data_pipelines.unused_files import mark_used, remove_unused

_ARRAYS = ("shapes", "order", "starts", "members", "left_out")
_KEPT = 3  # Epochs on disk, beside the first.


@dataclasses.dataclass(frozen=True)
class Epoch:
  """The rows of one epoch.

  Row k has shape shapes[k // batch] and holds the samples
  members[starts[order[k]] : starts[order[k] + 1]].
  """

  shapes: np.ndarray  # [batches]
  order: np.ndarray  # [rows]
  starts: np.ndarray  # [rows + 1]: where the samples of each row begin in `members`.
  members: np.ndarray  # [samples]: numbers of samples, row by row.
  left_out: np.ndarray  # Samples that fit in no row.

  def samples(self, k: int) -> tuple[int, ...]:
    """The samples of row k of the epoch."""
    row = self.order[k]
    start = self.starts[row]
    stop = self.starts[row + 1]
    return tuple(self.members[start:stop].tolist())


class EpochStore:
  """Epochs on disk: one process plans an epoch, the others map it.

  `digest` identifies everything that decides the rows.
  """

  def __init__(self, folder: str, digest: str):
    self._folder = pathlib.Path(folder)
    self._digest = digest

  def epoch(self, number: int, plan_epoch: Callable[[int], Epoch]) -> Epoch:
    """The epoch with this number, planned if it is not there."""
    path = self._path(number)
    with one_builder(self._folder, "packs the rows"):
      if read_facts(path, path.name) is None:
        epoch = plan_epoch(number)
        arrays = {name: getattr(epoch, name) for name in _ARRAYS}
        if not keep_arrays(path, arrays, {}, path.name):
          return epoch
        self._remove(number - _KEPT)
      mark_used(path)
      remove_unused(self._folder)
      # Mapped under the lock: another run in this folder may remove epochs that it has finished.
      return Epoch(**{name: map_array(path, name) for name in _ARRAYS})

  def _path(self, number: int) -> pathlib.Path:
    return self._folder / f"rows-{self._digest[:32]}-{number}"

  def _remove(self, number: int) -> None:
    if number > 0:
      shutil.rmtree(self._path(number), ignore_errors=True)
