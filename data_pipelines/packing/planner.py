# SPDX-License-Identifier: Apache-2.0
"""Assigns samples to packed rows and orders the rows, before anything is decoded.

The rows of an epoch depend only on the demand of the samples (how many positions, frames and images
each of them takes), on the settings, the seed and the number of the epoch. The numbers of rows
continue across epochs, so one row number is the position of a run in its data.
"""

import bisect
from collections.abc import Iterable, Sequence
import dataclasses
import math
import threading

import numpy as np

from data_pipelines.packing.demand import Demand, DemandOfEpoch, capacity
from data_pipelines.packing.epochs import Epoch, EpochStore
from filax import setting_kinds, settings
from filax.spec import RowShape, VisualLayout, dropout_stages

OPEN_ROWS = 16  # Rows that can still take samples; with more, rows are not filled any better.
_QUERIES_MARGIN = 1.5  # A row has room for this multiple of the mean query positions.
_QUERIES_MULTIPLE = 4
_LENGTH_MULTIPLE = 128  # `suggest_row` names a multiple of this number of positions.


@dataclasses.dataclass(frozen=True)
class PlanRow:
  """A planned row."""

  number: int  # Counted over all epochs.
  epoch: int
  shape: int  # Index of its RowShape.
  samples: tuple[int, ...]  # The numbers of its samples.


class Planner:
  """Plans the rows of every epoch from `demand(epoch)`.

  The demand is the same in every epoch unless samples `vary`. Each sample goes to the smallest
  shape that holds it. All `batch` rows of a global batch have the same shape. If the rows of a
  shape do not fill its last batch of an epoch, the first rows of that shape are repeated (at most
  batch - 1 of them). So no sample is left out, even in a very small data set.

  A Planner is thread-safe and can be pickled.
  """

  def __init__(
    self,
    demand: DemandOfEpoch,
    shapes: Sequence[RowShape],
    *,
    batch: int,
    seed: int,
    packing: bool = True,
    vary: bool = False,
    store: EpochStore | None = None,
  ):
    self._store = store
    self.demand = demand
    self.shapes = tuple(shapes)
    self.batch = batch
    self.seed = seed
    self.packing = packing
    self.vary = vary
    self._starts = [0]  # _starts[e]: the number of epoch e's first row.
    self._epochs: dict[int, Epoch] = {}
    self._lock = threading.RLock()
    if not len(self.epoch(0).order):
      raise ValueError(
        "No sample fits in a row, or there is none. Set config.data.train to manifests that have "
        "some, or config.data.rows to larger rows."
      )

  def __getstate__(self):
    state = dict(self.__dict__)
    del state["_lock"], state["_epochs"]
    return state

  def __setstate__(self, state):
    self.__dict__.update(state)
    self._lock = threading.RLock()
    self._epochs = {}

  def row_count(self, epoch: int) -> int:
    """The rows of an epoch: a multiple of the batch."""
    return self.first_row(epoch + 1) - self.first_row(epoch)

  def first_row(self, epoch: int) -> int:
    """The number of an epoch's first row."""
    with self._lock:
      while len(self._starts) <= epoch:
        rows = self._count_rows(len(self._starts) - 1)
        self._starts.append(self._starts[-1] + rows)
      return self._starts[epoch]

  def _count_rows(self, epoch: int) -> int:
    """The rows of the first epoch that is not counted yet."""
    all_epochs_are_alike = not self.packing and not self.vary
    if epoch and all_epochs_are_alike:
      return self._starts[1]
    rows = len(self.epoch(epoch).order)
    if not rows:
      raise ValueError("An epoch has no rows: no sample fits in config.data.rows any more.")
    return rows

  def row(self, number: int) -> PlanRow:
    """The row with this global number, in any epoch."""
    while self._starts[-1] <= number:
      self.first_row(len(self._starts))
    epoch = bisect.bisect_right(self._starts, number) - 1
    rows = self.epoch(epoch)
    number_in_epoch = number - self.first_row(epoch)
    batch_in_epoch = number_in_epoch // self.batch
    shape = int(rows.shapes[batch_in_epoch])
    return PlanRow(number, epoch, shape, rows.samples(number_in_epoch))

  def epoch(self, epoch: int) -> Epoch:
    """All rows of an epoch (those of two epochs are cached)."""
    with self._lock:
      if epoch not in self._epochs:
        latest = list(self._epochs)[-1:]
        self._epochs = {kept: self._epochs[kept] for kept in latest}
        if self._store is None:
          self._epochs[epoch] = self._plan_epoch(epoch)
        else:
          self._epochs[epoch] = self._store.epoch(epoch, self._plan_epoch)
      return self._epochs[epoch]

  def _plan_epoch(self, epoch: int) -> Epoch:
    demand = self.demand(epoch)
    shape_of = smallest_shape(demand, self.shapes)
    rng = np.random.default_rng((self.seed, epoch))
    arrival = rng.permutation(len(demand))  # The random order in which samples are packed.
    members = []  # The samples of each row, row by row.
    lengths = []  # The number of samples of each row.
    order = []  # The rows in the order of their batches.
    shapes = []  # The shape of each batch.
    planned = 0  # The number of rows of the previous shapes.
    for number, shape in enumerate(self.shapes):
      ids = arrival[shape_of[arrival] == number]
      if not len(ids):
        continue
      row_of = np.arange(len(ids))
      if self.packing:
        row_of = pack(demand.take(ids), shape)
      by_row = np.argsort(row_of, kind="stable")
      members.append(ids[by_row])
      lengths.append(np.bincount(row_of))
      count = row_of.max() + 1
      # Rows are shuffled, because packing puts samples of similar length together. np.resize fills
      # the last batch by repeating the first rows.
      batches = math.ceil(count / self.batch)
      shuffled = np.resize(rng.permutation(count), batches * self.batch)
      order.append(planned + shuffled)
      shapes.append(np.full(batches, number))
      planned += int(count)
    shape_of_batch = _join(shapes)
    batch_order = rng.permutation(len(shape_of_batch))
    row_of_batch = _join(order).reshape(-1, self.batch)
    first_start = np.zeros(1, np.int64)
    return Epoch(
      shapes=shape_of_batch[batch_order],
      order=row_of_batch[batch_order].ravel(),
      starts=np.cumsum(_join([first_start, *lengths])),
      members=_join(members),
      left_out=np.flatnonzero(shape_of < 0),
    )


def _join(parts: Sequence[np.ndarray]) -> np.ndarray:
  """Concatenates any number of arrays as i64."""
  empty = np.zeros(0, np.int64)
  return np.concatenate([empty, *parts]).astype(np.int64)


def row_shapes(
  rows: Iterable[Sequence[int]],
  unit: int,
) -> tuple[RowShape, ...]:
  """config.data.rows as RowShapes, the smallest first.

  unit: the frames that a model encodes and merges together. Raises ValueError for an invalid row.
  """
  setting_kinds.check_value("config.data.rows", rows, settings.TABLE["data.rows"])
  shapes = set()
  for row in rows:
    frames, images, length, segments = map(int, row)
    shape = RowShape(frames, images, length, segments)
    if shape.frames % unit:
      larger = math.ceil(shape.frames / unit) * unit
      raise ValueError(
        f"config.data.rows has a row of {shape.frames} frames, which is not a multiple of the "
        f"{unit} that the model encodes and merges together (config.model.encoder.clip and "
        f"config.model.selector.size). Set it to {larger}."
      )
    shapes.add(shape)
  return tuple(sorted(shapes, key=_size_order))


def _size_order(shape: RowShape) -> tuple[int, int, int]:
  return shape.length, shape.frames, shape.images


def with_dropout(
  shapes: Sequence[RowShape],
  layout: VisualLayout,
  demand: Demand,
) -> tuple[RowShape, ...]:
  """The shapes with their fields for visual dropout.

  They are the length after every stage and the number of query positions. A row has enough query
  positions for the sample with the most of them, and for 1.5 times the mean of a full row.
  """
  if not layout.stages:
    return tuple(shapes)
  dropped = []
  for shape in shapes:
    shape = dataclasses.replace(
      shape,
      room=dropout_stages.room(shape, layout),
      stages=len(layout.stages),
    )
    fits = demand.fits_but_queries(shape)
    queries = _room_for_queries(demand.queries[fits], shape.segments)
    dropped.append(dataclasses.replace(shape, queries=queries))
  return tuple(dropped)


def _room_for_queries(queries: np.ndarray, segments: int) -> int:
  """The number of query positions of a row of `segments` segments.

  queries: the query positions of each sample, i64 [samples].
  """
  count = 0
  if len(queries):
    largest = int(queries.max())
    mean = float(queries.mean())
    usual = math.ceil(_QUERIES_MARGIN * mean * segments)
    count = max(largest, min(largest * segments, usual))
  multiples = max(1, math.ceil(count / _QUERIES_MULTIPLE))
  return multiples * _QUERIES_MULTIPLE


def smallest_shape(demand: Demand, shapes: Sequence[RowShape]) -> np.ndarray:
  """The first shape that holds each sample, or -1: i64 [samples]."""
  fits = np.stack([demand.fits(shape) for shape in shapes], axis=1)
  smallest = fits.argmax(1)
  smallest[~fits.any(1)] = -1
  return smallest


def pack(demand: Demand, shape: RowShape) -> np.ndarray:
  """Packs samples into rows by best fit.

  Returns the row of each sample, i64 [samples], numbered from 0. Samples are packed in order, and
  each of them must fit in `shape`.

  At most OPEN_ROWS rows are open at a time. A sample goes to the fullest open row that has enough
  of everything (positions, frames, images, segments). If it fits in no open row, the fullest one is
  closed, and a new row is opened.
  """
  samples = len(demand)
  total = np.array([*capacity(shape), shape.segments], np.int64)
  one_segment = np.ones((samples, 1), np.int64)
  needed = np.concatenate([demand.columns(), one_segment], axis=1)
  weight = 1 / np.maximum(total, 1)
  weight[total == 0] = 0
  weight[-1] = 0  # The number of segments does not count for how full a row is.
  free = np.tile(total, (OPEN_ROWS, 1))
  rows = np.arange(OPEN_ROWS)
  emptiness = free @ weight
  row_of = np.empty(samples, np.int64)
  next_row = OPEN_ROWS
  for sample, need in enumerate(needed):
    fits = (free >= need).all(1)
    score = np.where(fits, emptiness, np.inf)
    place = int(score.argmin())
    if not fits[place]:
      place = int(emptiness.argmin())
      free[place] = total
      rows[place] = next_row
      next_row += 1
    free[place] -= need
    emptiness[place] = free[place] @ weight
    row_of[sample] = rows[place]
  return np.unique(row_of, return_inverse=True)[1]


def fill(
  epoch: Epoch,
  demand: Demand,
  shapes: Sequence[RowShape],
) -> dict[str, float]:
  """How full the rows of an epoch are.

  Returns the mean number of samples in a row, and the used shares of tokens, frames and images.
  """
  lengths = np.diff(epoch.starts)
  row_of = np.repeat(np.arange(len(lengths)), lengths)
  batch = len(epoch.order) // len(epoch.shapes)
  rows_of_shape = np.bincount(epoch.shapes, minlength=len(shapes)) * batch

  def share(needed: np.ndarray, room: Sequence[int]) -> float:
    total = int(np.dot(rows_of_shape, room))
    if not total:
      return 0.0
    of_row = np.bincount(row_of, needed[epoch.members], minlength=len(lengths))
    return float(of_row[epoch.order].sum() / total)

  return dict(
    samples_per_row=float(lengths[epoch.order].mean()),
    token_fill=share(demand.tokens, [shape.length for shape in shapes]),
    frame_fill=share(demand.frames, [shape.frames for shape in shapes]),
    image_fill=share(demand.images, [shape.images for shape in shapes]),
  )


def suggest_row(demand: Demand, frames: int) -> tuple[int, int]:
  """A row, (positions, frames), that uses both about evenly.

  The positions, a multiple of 128, are enough for the samples that fill `frames` frame slots. Both
  numbers are large enough for every single sample.
  """
  mean_frames = demand.frames.mean()
  positions = demand.tokens.max()
  if mean_frames:
    samples = frames / mean_frames
    positions = max(samples * demand.tokens.mean(), positions)
  multiples = math.ceil(positions / _LENGTH_MULTIPLE)
  largest = int(demand.frames.max())
  return multiples * _LENGTH_MULTIPLE, max(frames, largest)
