# SPDX-License-Identifier: Apache-2.0
"""Which samples share which packed row, and in which order rows come: decided before any decoding.

Rows have numbers that run on across epochs; a run's position in the data is one of them. The rows
of an epoch are a function of the samples' sizes, the settings, the seed and the epoch's number.
"""

import bisect
from collections.abc import Callable, Iterable, Sequence
import dataclasses
import hashlib
import json
import math
import threading

import numpy as np

from filax import setting_kinds, settings
from filax.spec import RowShape, VisualLayout, dropout_stages

OPEN_ROWS = 16  # Rows that a new sample may still join; more do not fill rows any better.


@dataclasses.dataclass(frozen=True)
class PlanRow:
  """Row `number`: the samples (by number) that share it, and which of the plan's shapes it has."""

  number: int
  epoch: int
  shape: int
  samples: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Epoch:
  """The rows of one epoch. Row k is of shape shapes[k // batch] and holds the samples
  members[starts[order[k]] : starts[order[k] + 1]]."""

  shapes: np.ndarray  # [batches]
  order: np.ndarray  # [rows]
  starts: np.ndarray
  members: np.ndarray
  left_out: np.ndarray  # Samples that fit in no row.

  def samples(self, k: int) -> tuple[int, ...]:
    row = self.order[k]
    return tuple(map(int, self.members[self.starts[row] : self.starts[row + 1]]))


class Planner:
  """Rows of every epoch. `sizes(epoch)` -> i64 [samples, columns]: what each sample takes of the
  `capacity` of a row; other ones every epoch only if they `vary`.

  Each sample goes to the smallest shape that holds it. All `batch` rows of a global batch are of
  one shape: where the rows of a shape do not fill its last batch of an epoch, it is topped up with
  the first rows of the same epoch again (never more than batch - 1 rows a shape), so that no sample
  is left out, however small the data. Thread-safe and picklable.
  """

  def __init__(
    self,
    sizes: Callable[[int], np.ndarray],
    shapes: Sequence[RowShape],
    *,
    batch: int,
    seed: int,
    packing: bool = True,
    vary: bool = False,
  ):
    self.sizes, self.shapes = sizes, tuple(shapes)
    self.batch, self.seed, self.packing, self.vary = batch, seed, packing, vary
    self._starts, self._epochs = [0], {}  # _starts[e]: the number of epoch e's first row.
    self._lock = threading.RLock()
    if not len(self.epoch(0).order):
      raise ValueError(
        "No sample fits in a row, or there is none. Set config.data.train to manifests that have "
        "some, or config.data.rows to larger rows."
      )

  def __getstate__(self):
    return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_epochs")}

  def __setstate__(self, state):
    self.__dict__ |= state | dict(_lock=threading.RLock(), _epochs={})

  def rows(self, epoch: int) -> int:
    """Rows of an epoch: a multiple of the batch."""
    return self.first(epoch + 1) - self.first(epoch)

  def first(self, epoch: int) -> int:
    """The number of an epoch's first row."""
    with self._lock:
      while len(self._starts) <= epoch:
        done = len(self._starts) - 1
        same = done and not self.packing and not self.vary  # Then every epoch has as many rows.
        rows = self._starts[1] if same else len(self.epoch(done).order)
        if not rows:
          raise ValueError("An epoch has no rows: no sample fits in config.data.rows any more.")
        self._starts.append(self._starts[-1] + rows)
      return self._starts[epoch]

  def row(self, number: int) -> PlanRow:
    """The row of a number, whatever its epoch."""
    while self._starts[-1] <= number:
      self.first(len(self._starts))
    epoch = bisect.bisect_right(self._starts, number) - 1
    rows, k = self.epoch(epoch), number - self.first(epoch)
    return PlanRow(number, epoch, int(rows.shapes[k // self.batch]), rows.samples(k))

  def epoch(self, epoch: int) -> Epoch:
    """All rows of an epoch (the last two are kept)."""
    with self._lock:
      if epoch not in self._epochs:
        self._epochs = dict(list(self._epochs.items())[-1:])
        self._epochs[epoch] = self._plan(epoch)
      return self._epochs[epoch]

  def _plan(self, epoch: int) -> Epoch:
    sizes = self.sizes(epoch)
    shape_of = smallest(sizes, self.shapes)
    rng = np.random.default_rng((self.seed, epoch))
    arrival = rng.permutation(len(sizes))
    members, lengths, order, shapes = [], [], [], []
    for n, shape in enumerate(self.shapes):
      ids = arrival[shape_of[arrival] == n]
      if not len(ids):
        continue
      row = pack(sizes[ids], shape) if self.packing else np.arange(len(ids))
      members.append(ids[np.argsort(row, kind="stable")])
      first, count = sum(map(len, lengths)), row.max() + 1
      lengths.append(np.bincount(row))
      # Packing order goes with length, so rows are shuffled after it. np.resize starts over.
      batches = math.ceil(count / self.batch)
      order.append(first + np.resize(rng.permutation(count), batches * self.batch))
      shapes.append(np.full(batches, n))
    batches = rng.permutation(sum(map(len, shapes)))
    join = lambda parts: np.concatenate([*parts, np.zeros(0, np.int64)]).astype(np.int64)
    return Epoch(
      join(shapes)[batches],
      join(order).reshape(-1, self.batch)[batches].ravel(),
      np.concatenate([[0], np.cumsum(join(lengths))]),
      join(members),
      np.flatnonzero(shape_of < 0),
    )


def row_shapes(rows: Iterable[Sequence[int]], frames_per_group: int) -> tuple[RowShape, ...]:
  """config.data.rows as RowShapes, the smallest first. Raises ValueError for what is none."""
  setting_kinds.check_value("config.data.rows", rows, settings.TABLE["data.rows"])
  rows = [tuple(map(int, row)) for row in rows]
  for row in rows:
    if row[0] % frames_per_group:
      raise ValueError(
        f"config.data.rows has a row of {row[0]} frames, which is not a multiple of the "
        f"{frames_per_group} that the model merges (config.model.selector.size). Set it to "
        f"{-(-row[0] // frames_per_group) * frames_per_group}."
      )
  size = lambda shape: (shape.length, shape.frames, shape.images)
  return tuple(sorted({RowShape(*row) for row in rows}, key=size))


def with_dropout(
  shapes: Sequence[RowShape], layout: VisualLayout, sizes: np.ndarray
) -> tuple[RowShape, ...]:
  """The shapes with room for what visual dropout leaves, and for the query positions of samples of
  these `sizes`: of the one with most, and of half as many again as usual if a row is full."""
  if not layout.stages:
    return tuple(shapes)
  out = []
  for shape in shapes:
    shape = dataclasses.replace(
      shape, room=dropout_stages.room(shape, layout), stages=len(layout.stages)
    )
    queries = sizes[(sizes[:, :-1] <= capacity(shape)[:-1]).all(1), -1]
    most, mean = (int(queries.max()), float(queries.mean())) if len(queries) else (0, 0.0)
    count = max(most, min(most * shape.segments, math.ceil(1.5 * mean * shape.segments)))
    out.append(dataclasses.replace(shape, queries=max(4, -(-count // 4) * 4)))
  return tuple(out)


def capacity(shape: RowShape) -> list[int]:
  """What a row holds at most: tokens, frames, images; with visual dropout also tokens after every
  stage, and query positions."""
  left = [*shape.room, shape.queries] if shape.room else []
  return [shape.length, shape.frames, shape.images, *left]


def smallest(sizes: np.ndarray, shapes: Sequence[RowShape]) -> np.ndarray:
  """The first shape that holds each sample, i64 [samples]; -1 where none does."""
  fits = np.stack([(sizes <= capacity(s)).all(1) for s in shapes], axis=1)
  return np.where(fits.any(1), fits.argmax(1), -1)


def pack(sizes: np.ndarray, shape: RowShape) -> np.ndarray:
  """The row of each sample, in order of arrival: i64 [samples, columns] -> i64 [samples], from 0.

  Best fit on all that a row holds, and samples, at once over at most OPEN_ROWS open rows; where
  nothing fits, the fullest row is closed. All samples must fit in `shape`.
  """
  room = np.array([*capacity(shape), shape.segments], np.int64)
  need = np.concatenate([sizes, np.ones((len(sizes), 1), np.int64)], axis=1)
  left, rows = np.tile(room, (OPEN_ROWS, 1)), np.arange(OPEN_ROWS)
  weight = np.where(room > 0, 1 / np.maximum(room, 1), 0.0)
  weight[-1] = 0
  score = left @ weight  # How empty an open row is.
  out = np.empty(len(need), np.int64)
  fresh = OPEN_ROWS
  for i, item in enumerate(need):
    fits = (left >= item).all(1)
    j = int(np.where(fits, score, np.inf).argmin())
    if not fits[j]:
      j = int(score.argmin())
      left[j], rows[j], fresh = room, fresh, fresh + 1
    left[j] -= item
    score[j] = left[j] @ weight
    out[i] = rows[j]
  return np.unique(out, return_inverse=True)[1]


def fill(epoch: Epoch, sizes: np.ndarray, shapes: Sequence[RowShape]) -> dict[str, float]:
  """How full the rows of an epoch are: samples_per_row, token_fill, frame_fill, image_fill."""
  count = np.diff(epoch.starts)[epoch.order]
  row_of = np.repeat(np.arange(len(epoch.starts) - 1), np.diff(epoch.starts))
  used = np.zeros((len(epoch.starts) - 1, 3))
  np.add.at(used, row_of, sizes[epoch.members, :3])
  used = used[epoch.order].sum(0)
  rows = [shapes[n] for n in np.repeat(epoch.shapes, len(epoch.order) // len(epoch.shapes))]
  room = [sum(s.length for s in rows), sum(s.frames for s in rows), sum(s.images for s in rows)]
  shares = [float(u / r) if r else 0.0 for u, r in zip(used, room, strict=True)]
  return dict(
    samples_per_row=float(count.mean()),
    **dict(zip(("token_fill", "frame_fill", "image_fill"), shares, strict=True)),
  )


def suggest(sizes: np.ndarray, frames: int) -> tuple[int, int]:
  """(positions, frames) of a row in which neither runs out much before the other: as many positions
  as the samples that fill `frames` frame slots have, in steps of 128, but never too few for one."""
  mean_tokens, mean_frames = sizes[:, 0].mean(), sizes[:, 1].mean()
  wanted = frames / mean_frames * mean_tokens if mean_frames else 0
  return 128 * math.ceil(max(wanted, sizes[:, 0].max()) / 128), max(frames, int(sizes[:, 1].max()))


def fingerprint(**facts) -> str:
  """sha256 of everything that decides the rows: JSON-like values, arrays and bytes."""

  def plain(value):
    if isinstance(value, np.ndarray):
      value = f"{value.dtype} {value.shape}".encode() + value.tobytes()
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)

  return hashlib.sha256(json.dumps(facts, sort_keys=True, default=plain).encode()).hexdigest()
