# SPDX-License-Identifier: Apache-2.0
"""Intervals of mean scores by resampling, whole videos or single questions.

Questions about one video go right and wrong together. Resampling single questions takes them as
independent and gives intervals that are too narrow; resampling videos with all their questions
does not (Miller, arXiv:2411.00640).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
_CHUNK = 2_000_000  # Counts drawn at a time, to bound the memory.


def media_units(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
  """The number of each row's medium i64 [n]; a row without one is a unit of its own."""
  names: dict[tuple[str, Any], int] = {}
  numbers = []
  for place, row in enumerate(rows):
    medium = row.get("media")
    key = ("medium", str(medium)) if medium else ("row", place)
    numbers.append(names.setdefault(key, len(names)))
  return np.asarray(numbers, np.int64)


def mean_error(values: Sequence[float] | np.ndarray, units: np.ndarray) -> float:
  """The standard error of the mean of values [n], with units [n] drawn together.

  The cluster-robust estimate; with one value in each unit, the ordinary standard error.
  """
  array = np.asarray(values, np.float64)
  sums = np.bincount(units, array - array.mean())
  count = len(sums)
  if count < 2:
    return float("nan")
  return float(np.sqrt(count / (count - 1) * np.square(sums).sum()) / len(array))


def group_means(values: np.ndarray, groups: np.ndarray) -> float:
  """The unweighted mean of the groups' means; one group gives the plain mean."""
  counts = np.bincount(groups)
  sums = np.bincount(groups, values)
  present = counts > 0
  return float((sums[present] / counts[present]).mean())


def bootstrap_interval(
  values: np.ndarray,
  units: np.ndarray,
  groups: np.ndarray,
  *,
  resamples: int = RESAMPLES,
  seed: int = SEED,
) -> tuple[float, float]:
  """The percentile interval of `group_means` at LEVEL.

  values f64 [n]: a score, or a difference of two scores, of each question. units i64 [n]: what is
  drawn with replacement, as many as there are. groups i64 [n]: the group of each question; all 0
  for the plain mean.

  Units with equal sums and counts are exchangeable, so a resample is a multinomial draw of how
  often each kind of unit occurs. A group that a resample leaves empty is left out of its mean.
  """
  kinds, frequency = unit_kinds(values, units, groups)
  count = int(frequency.sum())
  size = kinds.shape[1] // 2
  generator = np.random.default_rng(seed)
  means = []
  step = max(1, _CHUNK // len(frequency))
  for start in range(0, resamples, step):
    draws = generator.multinomial(count, frequency / count, min(step, resamples - start))
    totals = draws @ kinds  # [resamples 2·groups]
    with np.errstate(invalid="ignore"):
      ratios = totals[:, :size] / totals[:, size:]
    means.append(np.nanmean(ratios, axis=1))
  tail = (1 - LEVEL) / 2
  low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
  return float(low), float(high)


def unit_kinds(
  values: np.ndarray, units: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """The different units: f64 [kinds 2·groups] of sums and counts by group, and how many of each."""
  size = int(groups.max()) + 1
  count = int(units.max()) + 1
  place = units * size + groups
  sums = np.bincount(place, values, count * size).reshape(count, size)
  counts = np.bincount(place, minlength=count * size).reshape(count, size)
  rounded = np.round(sums, 9)  # Sums in another order differ in their last bits.
  return np.unique(np.concatenate([rounded, counts], 1), axis=0, return_counts=True)
