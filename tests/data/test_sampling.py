# SPDX-License-Identifier: Apache-2.0
"""Counts and times of frames against LLaVA's index rule and by arithmetic."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.media.probe import Probe
from data_pipelines.packing import frame_sampling
from data_pipelines.sample import Scene

UNIFORM = dict(name="uniform", frames=6, phase="ends")
TEN = frame_sampling.Extent(duration=10.0, last=9.5, frames=20)


@given(frames=st.integers(1, 400), count=st.integers(1, 96), fps=st.sampled_from([1, 2, 24, 29.97]))
def test_ends_are_llavas_linspace_of_indices(frames, count, fps):
  extent = frame_sampling.extent(
    (Scene("v"),), {"v": Probe(frames=frames, duration=frames / fps, fps=fps)}
  )
  times = frame_sampling.sample_times(UNIFORM, count, extent)
  reference = np.linspace(0, frames - 1, count).astype(int)  # LLaVA, force_sample.
  on_screen = np.floor(times * fps + 1e-6).astype(int)
  exact = np.linspace(0, frames - 1, count) % 1  # Rounding may move an index that is whole.
  clear = (exact > 1e-5) & (exact < 1 - 1e-5)
  np.testing.assert_array_equal(on_screen[clear], reference[clear])
  assert times[0] == 0 and np.all(np.diff(times) >= 0) and times[-1] <= extent.last + 1e-9


def test_a_scene_within_another_does_not_end_the_video():
  probes = dict(
    long=Probe(frames=40, duration=10.0, fps=4.0), short=Probe(frames=12, duration=3.0, fps=4.0)
  )
  extent = frame_sampling.extent((Scene("long"), Scene("short", at=2.0)), probes)
  assert (extent.last, extent.duration) == (9.75, 10.0)


def test_phases():
  def times(phase, u=0.5):
    return frame_sampling.sample_times(dict(UNIFORM, phase=phase), 5, TEN, u)

  np.testing.assert_allclose(times("ends"), [0, 2.375, 4.75, 7.125, 9.5])
  np.testing.assert_allclose(times("middle", 0.1), [1, 3, 5, 7, 9])
  np.testing.assert_allclose(times("random", 0.25), [0.5, 2.5, 4.5, 6.5, 8.5])
  assert times("random", 0.99)[-1] == 9.5  # Not after the last frame appears.


def test_random_phase_depends_on_seed_epoch_and_sample_alone():
  draws = {
    (s, e, n): frame_sampling.random_phase(s, e, n)
    for s in range(3)
    for e in range(3)
    for n in range(3)
  }
  assert len(set(draws.values())) == 27 and all(0 <= u < 1 for u in draws.values())
  assert draws[1, 2, 0] == frame_sampling.random_phase(1, 2, 0)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_short_video_repeats_its_last_frame(frames):
  extent = frame_sampling.extent(
    (Scene("v"),), {"v": Probe(frames=frames, duration=frames / 2, fps=2.0)}
  )
  assert frame_sampling.frame_count(UNIFORM, extent, 3) == 6
  for phase in frame_sampling.PHASES:
    times = frame_sampling.sample_times(dict(UNIFORM, phase=phase), 6, extent)
    assert len(times) == 6 and times[-1] == pytest.approx((frames - 1) / 2)


def test_extent_of_timelines():
  probes = {
    "a": Probe(frames=40, duration=20.0, fps=2.0),
    "b": Probe(frames=30, duration=10.0, fps=3.0),
    "broken": Probe(error="x"),
    "p": Probe(frames=1, width=4, height=4),
  }

  def of(*scenes):
    return frame_sampling.extent(scenes, probes)

  assert of(Scene("a")) == frame_sampling.Extent(20.0, 19.5, 40)
  assert of(Scene("a", t0=5.0, t1=9.0)) == frame_sampling.Extent(4.0, 3.5, 8)
  assert of(Scene("a", t0=5.0, t1=99.0)) == frame_sampling.Extent(
    15.0, 14.5, 30
  )  # The file ends first.
  assert of(Scene("a", t1=4.0), Scene("b", at=4.0)) == frame_sampling.Extent(
    14.0, 4 + 10 - 1 / 3, 38
  )
  assert of(Scene("a"), Scene("p", "still", 0.0, 3.0, 20.0)) == frame_sampling.Extent(
    23.0, 20.0, 41
  )
  assert of(Scene("broken")) == frame_sampling.Extent(0.0, 0.0, 1)


@pytest.mark.parametrize("count", [0, -3, 95])
def test_count_that_is_not_whole_groups_names_both_knobs(count):
  with pytest.raises(ValueError, match=r"data\.sampling\.frames=.*config\.model\.selector\.size"):
    frame_sampling.frame_count(dict(UNIFORM, frames=count), TEN, 3)


def test_unknown_names_are_errors():
  with pytest.raises(ValueError, match=r"sampling\.name='fast'.*uniform"):
    frame_sampling.frame_count(dict(UNIFORM, name="fast"), TEN, 3)
  with pytest.raises(ValueError, match=r"sampling\.phase='late'.*middle"):
    frame_sampling.frame_count(dict(UNIFORM, phase="late"), TEN, 3)
