# SPDX-License-Identifier: Apache-2.0
"""Packed rows without videos: random but valid, a function of the row's number alone."""

import contextlib
import time

import numpy as np

from configs import common
from filax import spec

ROW = spec.RowShape(frames=6, images=1, length=32, segments=2)
LAYOUT = spec.VisualLayout(size=42, frames_per_group=3, group_grid=(2, 2), image_grid=(3, 3))


def config(batch=8, steps=4, **changes):
  """The tiny FiLA in float32, everything trained, on rows of ROW."""
  c = common.shrink(common.base())
  c.mesh = dict(data=-1, fsdp=1, seq=1, tensor=1)
  c.batch, c.steps, c.optim.loss_chunk = batch, steps, 8
  c.optim.rates, c.optim.warmup = (("^encoder/", 1e-4), ("", 1e-3)), 0.0
  c.update_from_flattened_dict(changes)
  return c.lock()


def row(number: int, vocab: int = 512) -> dict[str, np.ndarray]:
  """Two samples: a video of one group with text, and an image with text; then padding."""
  rng = np.random.default_rng(number)
  made = ROW.zeros(LAYOUT.size)
  made["frames"][:] = rng.integers(0, 256, made["frames"].shape)
  made["images"][:] = rng.integers(0, 256, made["images"].shape)
  made["frame_segment_ids"][:3] = 1
  made["image_segment_ids"][:] = 2
  made["tokens"][:] = rng.integers(0, vocab, made["tokens"].shape)
  made["targets"][:-1] = made["tokens"][1:]
  for segment, first, last, visual in ((1, 0, 12, range(4)), (2, 12, 30, range(8, 17))):
    made["segment_ids"][first:last] = segment
    made["positions"][first:last] = np.arange(last - first)
    made["visual_index"][first : first + len(visual)] = visual
    made["loss_mask"][last - rng.integers(2, 6) : last - 1] = 1
  return made


class Rows:
  """A pipeline (filax.train.batches.BatchSource) over `row`; `seconds` slows each batch down."""

  row_shapes = (ROW,)

  def __init__(self, batch: int, fingerprint: str = "made", seconds: float = 0.0, change=None):
    self.batch, self.fingerprint, self.seconds = batch, fingerprint, seconds
    self.change = change or (lambda number, made: made)
    self.closed = False

  def steps(self, epochs: int) -> int:
    return 5 * epochs

  @contextlib.contextmanager
  def batches(self, start: int, process_index=0, process_count=1, seq_slice=(0, 1)):
    self.closed = False
    yield self._batches(start)
    self.closed = True

  def _batches(self, start: int):
    while True:
      time.sleep(self.seconds)
      rows = [self.change(n, row(n)) for n in range(start, start + self.batch)]
      yield {key: np.stack([r[key] for r in rows]) for key in rows[0]}
      start += self.batch


def batch(rows: int, first: int = 0) -> dict[str, np.ndarray]:
  return next(Rows(rows)._batches(first))
