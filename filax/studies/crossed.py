# SPDX-License-Identifier: Apache-2.0
"""Means over training seeds and questions, with intervals that count both.

Scores form a table [seeds, questions]: every seed answers the same questions. Two things vary by
chance: which seed trained the model, and which videos were asked about. So the variance of the mean
is computed with two-way clustering, by seed and by video (Cameron, Gelbach and Miller 2011). The
degrees of freedom of the t interval follow Satterthwaite. Questions about one video count together.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats

LEVEL = 0.95
POWER = 0.8  # Chance to see the smallest difference.


class CrossedMean(NamedTuple):
  """A mean with its interval.

  With one seed the interval counts the questions alone.
  """

  mean: float
  low: float
  high: float
  error: float  # Standard error; NaN with fewer than two units.
  freedom: float  # Degrees of freedom.
  seeds: int
  questions: int

  @property
  def has_interval(self) -> bool:
    """False if the spread is unknown.

    So it is with one video under one seed, and with equal scores.
    """
    return math.isfinite(self.error) and self.error > 0

  @property
  def share_bounds(self) -> tuple[float, float]:
    """The ends of the interval, for a share from 0 to 1."""
    if not 0 <= self.mean <= 1:
      return self.low, self.high
    return max(self.low, 0.0), min(self.high, 1.0)

  @property
  def smallest_difference(self) -> float:
    """The smallest true mean that would be distinguished from 0.

    The interval then lies above 0 in 80 % of repetitions, by the noncentral t distribution.
    """
    bound = scipy.stats.t.isf((1 - LEVEL) / 2, self.freedom)
    needed = scipy.special.nctdtrinc(self.freedom, 1 - POWER, bound)
    return float(needed * self.error)


def crossed_mean(values: np.ndarray, units: np.ndarray) -> CrossedMean:
  """The mean of a table of scores, or of differences of scores.

  values f64 [seeds questions]; units i64 [questions]: the video of each question.
  """
  seeds = len(values)
  mean = float(values.mean())
  residual = values - mean
  by_unit = _sums_by_unit(residual, units)  # [seeds units]
  count = by_unit.shape[1]
  of_units = _cluster_variance(by_unit.sum(axis=0)) / values.size**2
  if seeds == 1:
    return _interval(mean, of_units, count - 1, values.shape)
  of_seeds = _cluster_variance(by_unit.sum(axis=1)) / values.size**2
  if count == 1:
    return _interval(mean, of_seeds, seeds - 1, values.shape)
  of_both = _cluster_variance(by_unit.ravel()) / values.size**2
  variance = of_seeds + of_units - of_both
  terms = (
    of_seeds**2 / (seeds - 1),
    of_units**2 / (count - 1),
    of_both**2 / ((seeds - 1) * (count - 1)),
  )
  spread = sum(terms)
  # The difference may fall below the larger of its parts by chance; the larger part then counts.
  if variance <= max(of_seeds, of_units) or not spread:
    if of_seeds > of_units:
      return _interval(mean, of_seeds, seeds - 1, values.shape)
    return _interval(mean, of_units, count - 1, values.shape)
  return _interval(mean, variance, variance**2 / spread, values.shape)


def _sums_by_unit(values: np.ndarray, units: np.ndarray) -> np.ndarray:
  """The sum of each seed's values over each unit, f64 [seeds units]."""
  _, places = np.unique(units, return_inverse=True)
  sums = np.zeros((len(values), places.max() + 1))
  for row, seed_values in zip(sums, values, strict=True):
    row += np.bincount(places, seed_values, len(row))
  return sums


def _cluster_variance(sums: np.ndarray) -> float:
  """The variance of the total, from the sums of its clusters.

  It is NaN for a single cluster.
  """
  count = len(sums)
  if count < 2:
    return float("nan")
  return float(np.square(sums).sum()) * count / (count - 1)


def _interval(mean: float, variance: float, freedom: float, shape: tuple[int, int]) -> CrossedMean:
  seeds, questions = shape
  error = float(np.sqrt(variance))
  half = 0.0
  if error:
    half = float(scipy.stats.t.isf((1 - LEVEL) / 2, freedom)) * error
  return CrossedMean(mean, mean - half, mean + half, error, float(freedom), seeds, questions)
