# SPDX-License-Identifier: Apache-2.0
"""Random rows for the training loop, without files.

A row depends only on its number.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import time
from typing import Any

from ml_collections import ConfigDict
import numpy as np

from filax import spec
from filax.configs import common

Row = dict[str, np.ndarray]

ROW_SHAPE = spec.RowShape(frames=6, images=1, length=32, segments=2)
LAYOUT = spec.VisualLayout(size=42, frames_per_group=3, group_grid=(2, 2), image_grid=(3, 3))
EPOCH_STEPS = 5


@dataclasses.dataclass(frozen=True)
class RowSegment:
  """A sample of a row: its positions and visual table rows."""

  number: int
  first: int
  stop: int
  visual: range


SEGMENTS = (
  RowSegment(1, first=0, stop=12, visual=range(4)),
  RowSegment(2, first=12, stop=30, visual=range(8, 17)),
)


def tiny_train_config(batch: int = 8, steps: int = 4, **changes: Any) -> ConfigDict:
  """The tiny FiLA in float32, everything trained, on rows of ROW_SHAPE."""
  c = common.shrink(common.base())
  c.mesh = dict(data=-1, fsdp=1, seq=1, tensor=1)
  c.batch = batch
  c.steps = steps
  c.optim.loss_chunk = 8
  c.optim.rates = (("^encoder/", 1e-4), ("", 1e-3))
  c.optim.warmup = 0.0
  c.update_from_flattened_dict(changes)
  return c.lock()


def random_row(number: int, vocab: int = 512) -> Row:
  """A row of two samples and padding.

  A video of one group with text, then an image with text.
  """
  rng = np.random.default_rng(number)
  row = ROW_SHAPE.zeros(LAYOUT.size)
  for key in ("frames", "images"):
    row[key][:] = rng.integers(0, 256, row[key].shape)
  row["frame_segment_ids"][:3] = 1
  row["image_segment_ids"][:] = 2
  row["tokens"][:] = rng.integers(0, vocab, row["tokens"].shape)
  row["targets"][:-1] = row["tokens"][1:]
  for segment in SEGMENTS:
    places = slice(segment.first, segment.stop)
    pictures = slice(segment.first, segment.first + len(segment.visual))
    learnt = slice(segment.stop - rng.integers(2, 6), segment.stop - 1)
    row["segment_ids"][places] = segment.number
    row["positions"][places] = np.arange(segment.stop - segment.first)
    row["visual_index"][pictures] = segment.visual
    row["loss_mask"][learnt] = 1
  return row


class RandomRows:
  """A filax.train.batches.BatchSource.

  seconds: what every batch takes. change(number, row): called with every row; returns the row.
  """

  row_shapes = (ROW_SHAPE,)

  def __init__(
    self,
    batch: int,
    fingerprint: str = "made",
    seconds: float = 0.0,
    change: Callable[[int, Row], Row] | None = None,
  ):
    self.batch = batch
    self.fingerprint = fingerprint
    self.seconds = seconds
    self.change = change
    self.closed = False

  def steps(self, epochs: int) -> int:
    """Batches in this many epochs."""
    return EPOCH_STEPS * epochs

  @contextlib.contextmanager
  def batches(
    self,
    start: int,
    process_index: int = 0,
    process_count: int = 1,
    seq_slice: tuple[int, int] = (0, 1),
  ) -> Iterator[Iterator[Row]]:
    """Batches from row `start` on, without end."""
    self.closed = False
    yield self._batches(start)
    self.closed = True

  def _batches(self, start: int) -> Iterator[Row]:
    while True:
      time.sleep(self.seconds)
      rows = []
      for number in range(start, start + self.batch):
        row = random_row(number)
        rows.append(self.change(number, row) if self.change else row)
      yield stack_rows(rows)
      start += self.batch


def stack_rows(rows: list[Row]) -> Row:
  """Rows as a batch [R ...]."""
  return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def random_batch(rows: int, first: int = 0) -> Row:
  """A batch of `rows` rows from number `first` on."""
  return stack_rows([random_row(number) for number in range(first, first + rows)])
