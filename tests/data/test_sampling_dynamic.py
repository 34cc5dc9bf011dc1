# SPDX-License-Identifier: Apache-2.0
"""Frame counts and indices of VideoChat-Flash, against its table and a plain loop."""

import itertools

import numpy as np
import pytest

from data_pipelines.packing import dynamic_sampling as sampling

# seconds of a video at 30 frames a second -> frames at inference (64, 512, 8), in training (.., 4).
TABLE = {
  1: (24, 28),
  2: (56, 60),
  5: (64, 64),
  30: (64, 64),
  64: (64, 64),
  70: (64, 68),
  100: (96, 100),
  300: (296, 300),
  512: (512, 512),
  3600: (512, 512),
}


@pytest.mark.parametrize(("seconds", "counts"), TABLE.items())
def test_counts_of_the_release(seconds, counts):
  frames = seconds * 30
  assert (
    sampling.dynamic_fps(frames, seconds, 64, 512, 8),
    sampling.dynamic_fps(frames, seconds, 64, 512, 4),
  ) == counts


@pytest.mark.parametrize(("seconds", "count"), [(0.5, 4), (3, 4), (7.9, 4), (8, 8), (100, 8)])
def test_counts_of_stage_two(seconds, count):
  assert sampling.dynamic_fps(round(seconds * 30), seconds, 1, 8, 4) == count


def test_the_lower_limit_wins_and_no_limit_is_zero():
  assert sampling.dynamic_fps(9000, 300, 64, 32, 8) == 64
  assert sampling.dynamic_fps(300_000, 10_000, 64, 0, 8) == 10_000
  assert sampling.dynamic_fps(3, 0.1, 64, 512, 8) == 8  # Fewer frames than one multiple: repeated.


@pytest.mark.parametrize(
  ("seconds", "count"),
  [(1, 28), (3, 64), (10, 148), (30, 448), (59, 512), (60, 64), (300, 300), (3600, 512)],
)
def test_counts_of_the_paper(seconds, count):
  assert sampling.dense_sparse(seconds * 30, seconds) == count


def test_first_frames_at_one_a_second():
  assert sampling.first(10_500.0, 10_000) == 10_000
  assert sampling.first(30.7, 64) == 28
  assert sampling.first(0.2, 64) == 4
  np.testing.assert_array_equal(sampling.first_times(4, 2.5), [0, 1, 2, 2.5])


def test_index_of_the_release():
  np.testing.assert_array_equal(sampling.released_index(100, 8), [5, 18, 30, 43, 55, 68, 80, 93])
  np.testing.assert_array_equal(sampling.released_index(3, 8), [0, 1, 2, 2, 2, 2, 2, 2])
  np.testing.assert_array_equal(sampling.released_index(0, 4), [0, 0, 0, 0])


def test_index_equals_a_loop_over_intervals():
  for frames in (1, 7, 30, 64, 65, 901, 15_361):
    for count in (4, 64, 296):
      edges = [int(e) for e in np.linspace(0, frames, min(count, frames) + 1)]
      expected = [(a + b - 1) // 2 for a, b in itertools.pairwise(edges)]
      expected += [expected[-1]] * (count - len(expected))
      np.testing.assert_array_equal(sampling.released_index(frames, count), expected)


def test_times_name_the_frames():
  index = sampling.released_index(900, 64)
  times = sampling.index_times(index, 900, 30.03)
  np.testing.assert_array_equal(np.floor(times * 900 / 30.03).astype(int), index)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ((64, 510, 4), r"sampling\.frames=510 is not a multiple .* Set it to 512"),
    ((66, 512, 8), r"sampling\.low=66 is not a multiple .* Set it to 64"),
    ((0, 512, 8), "low=0"),
    ((64, 512, 0), "multiple=0"),
  ],
)
def test_settings_that_cannot_be(settings, message):
  with pytest.raises(ValueError, match=message):
    sampling.dynamic_fps(3000, 100.0, *settings)
