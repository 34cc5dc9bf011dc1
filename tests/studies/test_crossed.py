# SPDX-License-Identifier: Apache-2.0
"""Intervals over seeds and questions, against SciPy and by simulation."""

import numpy as np
import pytest
import scipy.stats

from filax.studies.crossed import LEVEL, POWER, crossed_mean


def scipy_interval(values):
  return scipy.stats.ttest_1samp(values, 0).confidence_interval(LEVEL)


def test_one_seed_is_the_t_interval_of_questions():
  values = np.random.default_rng(0).normal(0.3, 1, 40)
  mean = crossed_mean(values[None], np.arange(40))
  expected = scipy_interval(values)
  assert (mean.low, mean.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
  assert mean.freedom == 39


def test_a_difference_is_the_paired_t_interval():
  rng = np.random.default_rng(1)
  first, second = rng.integers(0, 2, (2, 60)).astype(float)
  mean = crossed_mean((first - second)[None], np.arange(60))
  expected = scipy.stats.ttest_rel(first, second).confidence_interval(LEVEL)
  assert (mean.low, mean.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_questions_about_one_video_count_as_one():
  of_videos = np.random.default_rng(2).normal(size=20)
  mean = crossed_mean(np.repeat(of_videos, 5)[None], np.repeat(np.arange(20), 5))
  expected = scipy_interval(of_videos)
  assert (mean.low, mean.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_seeds_that_alone_vary_are_the_t_interval_of_seeds():
  of_seeds = np.array([0.2, 0.5, 0.4])
  mean = crossed_mean(np.repeat(of_seeds[:, None], 30, axis=1), np.arange(30))
  expected = scipy_interval(of_seeds)
  assert (mean.low, mean.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
  assert mean.freedom == 2


def test_variances_add_up_by_seed_and_by_question():
  """By hand: the residuals of a table add up to -4 4 by seed, to -4 -2 6 by question."""
  mean = crossed_mean(np.array([[3.0, 4.0, 7.0], [5.0, 6.0, 11.0]]), np.arange(3))
  of_seeds = (16 + 16) * 2 / 1
  of_questions = (16 + 4 + 36) * 3 / 2
  of_both = (9 + 4 + 1 + 1 + 0 + 25) * 6 / 5
  variance = of_seeds + of_questions - of_both
  spread = of_seeds**2 / 1 + of_questions**2 / 2 + of_both**2 / 2
  assert mean.error == pytest.approx(np.sqrt(variance) / 6, rel=1e-12)
  assert mean.freedom == pytest.approx(variance**2 / spread, rel=1e-12)


@pytest.mark.parametrize(("of_seed", "of_video"), [(0.0, 0.5), (0.3, 0.3), (0.1, 1.0)])
def test_intervals_cover_the_truth(of_seed, of_video):
  """3 seeds, 40 videos of 4 questions: the interval holds 0 in about 95 % of draws."""
  rng = np.random.default_rng(3)
  units = np.repeat(np.arange(40), 4)
  covered = 0
  draws = 600
  for _ in range(draws):
    seeds = rng.normal(0, of_seed, (3, 1))
    videos = rng.normal(0, of_video, 40)[units]
    mean = crossed_mean(seeds + videos + rng.normal(0, 1, (3, 160)), units)
    covered += mean.low <= 0 <= mean.high
  assert 0.92 <= covered / draws <= 0.995


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_smallest_difference_is_seen_with_its_power(seeds):
  """Also with three seeds that alone vary, which give two degrees of freedom."""
  values = np.random.default_rng(4).normal(size=(seeds, 50))
  if seeds > 1:
    values[:] = values[:, :1]
  mean = crossed_mean(values, np.arange(50))
  assert mean.freedom == (49 if seeds == 1 else 2)
  bound = scipy.stats.t.isf((1 - LEVEL) / 2, mean.freedom)
  shift = mean.smallest_difference / mean.error
  power = scipy.stats.nct.sf(bound, mean.freedom, shift)
  assert power == pytest.approx(POWER, abs=1e-5)


def test_scores_without_any_spread_have_no_interval():
  mean = crossed_mean(np.ones((3, 5)), np.arange(5))
  assert mean.mean == 1 and not mean.has_interval


def test_a_single_score_has_no_interval():
  mean = crossed_mean(np.ones((1, 1)), np.zeros(1, int))
  assert mean.mean == 1 and not mean.has_interval
  assert np.isnan(mean.low) and np.isnan(mean.high)
