# SPDX-License-Identifier: Apache-2.0
"""Intervals of mean scores by resampling whole videos, or single questions.

Questions about one video go right and wrong together. Resampling single questions takes them as
independent and gives intervals that are too narrow; resampling videos with all their questions
does not (Miller, arXiv:2411.00640).
"""

from collections.abc import Sequence

import numpy as np

from filax.evals.results import Row

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
NORMAL_95 = 1.96  # Standard errors on each side of a mean at LEVEL.
_CHUNK = 2_000_000  # Counts drawn at a time, to bound the memory.


def media_units(rows: Sequence[Row]) -> np.ndarray:
  """The number of each row's medium, i64 [n].

  A row without a medium is a unit of its own.
  """
  numbers: dict[tuple[str, int], int] = {}
  units = []
  for place, row in enumerate(rows):
    medium = str(row.get("media") or "")
    key = (medium, -1) if medium else ("", place)
    units.append(numbers.setdefault(key, len(numbers)))
  return np.asarray(units, np.int64)


def mean_error(values: np.ndarray, units: np.ndarray) -> float:
  """The standard error of the mean of values f64 [n].

  The values of a unit (units i64 [n]) are drawn together: the cluster-robust estimate. With one
  value in each unit it is the ordinary standard error.
  """
  sums = np.bincount(units, values - values.mean())
  count = len(sums)
  if count < 2:
    return float("nan")
  variance = np.square(sums).sum() * count / (count - 1)
  return float(np.sqrt(variance)) / len(values)


def group_mean(values: np.ndarray, groups: np.ndarray) -> float:
  """The unweighted mean of the groups' means.

  One group gives the plain mean.
  """
  sums = np.bincount(groups, values)
  counts = np.bincount(groups)
  present = counts > 0
  means = sums[present] / counts[present]
  return float(means.mean())


def bootstrap_interval(
  values: np.ndarray,
  units: np.ndarray,
  groups: np.ndarray,
  *,
  resamples: int = RESAMPLES,
  seed: int = SEED,
) -> tuple[float, float]:
  """The percentile interval of `group_mean` at LEVEL.

  values: f64 [n], a score, or a difference of two scores, of each question.
  units: i64 [n], the unit of each question. All units together are drawn with replacement, as many
    as there are.
  groups: i64 [n], the group of each question; all 0 for the plain mean.

  Units with equal sums and counts are exchangeable, so a resample is a multinomial draw of how
  often each kind of unit occurs. A group that a resample leaves empty is left out of its mean.
  """
  kinds, frequency = unit_kinds(values, units, groups)
  count = frequency.sum()
  size = kinds.shape[1] // 2
  generator = np.random.default_rng(seed)
  step = max(1, _CHUNK // len(frequency))
  means = []
  for start in range(0, resamples, step):
    rows = min(step, resamples - start)
    draws = generator.multinomial(count, frequency / count, rows)
    totals = draws @ kinds  # [rows 2·groups]
    sums = totals[:, :size]
    counts = totals[:, size:]
    ratios = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=ratios, where=counts > 0)
    means.append(np.nanmean(ratios, axis=1))
  tail = (1 - LEVEL) / 2
  low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
  return float(low), float(high)


def unit_kinds(
  values: np.ndarray, units: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """The different units, and how many there are of each.

  Returns f64 [kinds 2·groups] of sums and counts by group, and i64 [kinds].
  """
  size = int(groups.max()) + 1
  count = int(units.max()) + 1
  shape = (count, size)
  place = units * size + groups
  sums = np.bincount(place, values, count * size)
  counts = np.bincount(place, minlength=count * size)
  rounded = sums.round(9)  # Sums in another order differ in their last bits.
  table = np.concatenate([rounded.reshape(shape), counts.reshape(shape)], axis=1)
  return np.unique(table, axis=0, return_counts=True)
