# SPDX-License-Identifier: Apache-2.0
"""Ridge regression on hashed features, solved with conjugate gradients."""

from collections.abc import Iterable, Sequence
import functools
import zlib

import numpy as np

COLUMNS = 1 << 15  # Features are hashed to this number of columns.
STEPS = 20  # The most steps of conjugate gradients.
# Odd constants. Their products with 32-bit numbers have well-mixed upper bits.
_FIRST = np.uint64(0x9E3779B97F4A7C15)
_SECOND = np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT = np.uint64(40)
_ENOUGH = 1e-6  # The solver stops at this share of the first squared residual.


class SparseRows:
  """A sparse matrix.

  A row has equal values at some columns, and length 1.
  """

  def __init__(self, rows: Iterable[np.ndarray]):
    columns = [row % COLUMNS for row in rows]
    lengths = np.array(list(map(len, columns)), np.int64)
    self.columns = np.concatenate(columns).astype(np.int32)
    self.row = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    self.scale = 1 / np.sqrt(np.maximum(lengths, 1))

  def __len__(self) -> int:
    return len(self.scale)

  def products(self, weights: np.ndarray) -> np.ndarray:
    """The matrix times `weights`: f64 [rows]."""
    sums = np.bincount(self.row, weights[self.columns], len(self))
    return sums * self.scale

  def transposed(self, values: np.ndarray) -> np.ndarray:
    """The transposed matrix times `values`: f64 [COLUMNS]."""
    return np.bincount(self.columns, (values * self.scale)[self.row], COLUMNS)


@functools.lru_cache(1 << 17)
def feature_number(feature: str) -> int:
  """A number that stands for a feature."""
  return zlib.crc32(feature.encode("utf-8", "surrogateescape"))


def feature_numbers(features: Sequence[str]) -> np.ndarray:
  """The numbers of several features, uint64 [features]."""
  return np.array(list(map(feature_number, features)), np.uint64)


def crossed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """The numbers of all pairs of features: uint64 [first * second]."""
  pairs: np.ndarray = first[:, None] * _FIRST + second[None, :] * _SECOND
  return np.right_shift(pairs.ravel(), _SHIFT)


def fit_ridge(rows: SparseRows, target: np.ndarray, used: np.ndarray, ridge: float) -> np.ndarray:
  """The weights f64 [COLUMNS] that fit `target` on the `used` rows."""
  mask = used.astype(np.float64)
  weights = np.zeros(COLUMNS)
  residual = rows.transposed(target * mask)
  direction = residual
  size = float(residual @ residual)
  enough = size * _ENOUGH
  for _ in range(STEPS):
    if size <= enough or size == 0:
      break
    product = rows.transposed(rows.products(direction) * mask) + ridge * direction
    step = size / float(direction @ product)
    weights = weights + step * direction
    residual = residual - step * product
    next_size = float(residual @ residual)
    direction = residual + next_size / size * direction
    size = next_size
  return weights
