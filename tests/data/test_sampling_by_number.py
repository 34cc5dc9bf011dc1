# SPDX-License-Identifier: Apache-2.0
"""The released sampling takes frames by number; parts of uneven videos know their last frame."""

import itertools

import numpy as np
import odd_clips as odd
import pytest

from data_pipelines.media import frame_times
from data_pipelines.media import frames as video
from data_pipelines.media.probe import Probe
from data_pipelines.packing import frame_sampling
from data_pipelines.sample import Scene
from filax.testing import clips

RELEASED = dict(name="dynamic_fps", frames=512, low=64, multiple=8, phase="released")
UNEVEN = [0, 0.1, 0.2, 5, 5.1, 5.3, 9, 9.1, 9.2, 9.25, 9.3, 9.35, 30, 30.1, 60, 60.1]
EVEN = np.arange(40) / 10


def released_numbers(frames, fps, count, start=None, end=None):
  """The frames of VideoChat-Flash's read_frames_decord, and the seconds of its sentence."""
  duration, offset = frames / fps, 0
  if start is not None:
    start, end = max(0, start), min(duration - 0.1, end)
    duration = end - start
    frames, offset = int(duration * fps), int(start * fps)
  intervals = min(count, frames)
  edges = np.linspace(start=0, stop=frames, num=intervals + 1).astype(int)
  numbers = [(begin + stop - 1) // 2 for begin, stop in itertools.pairwise(edges)]
  return [offset + n for n in numbers + numbers[-1:] * (count - intervals)], duration


@pytest.mark.parametrize("times", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("part", [None, (0.0, 2.0), (1.07, 2.99), (1.6, 99.0), (0.55, 3.85)])
@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_released_frames_by_their_numbers(times, part, extension, tmp_path):
  path = odd.encode(tmp_path / f"x.{extension}", count=len(times), times=times)
  facts = video.probe(path)
  span = facts.duration / 4.0  # Parts are written for a video of 4 s.
  start, end = part or (None, None)
  scene = Scene(path) if part is None else Scene(path, t0=start * span, t1=end * span)
  extent = frame_sampling.extent((scene,), {path: facts}, RELEASED)
  seconds = frame_sampling.sample_times(RELEASED, 8, extent)
  frames, _ = video.read_timeline(frame_sampling.readable((scene,), RELEASED), seconds, odd.SIDE)
  if part is not None:
    start, end = start * span, end * span
  numbers, duration = released_numbers(facts.frames, facts.fps, 8, start, end)
  assert clips.read_numbers(frames) == numbers
  assert extent.duration == pytest.approx(duration)


def test_a_released_part_ends_a_tenth_of_a_second_before_the_file():
  facts = {"v": Probe(frames=3000, duration=120.75, fps=3000 / 120.75, last=120.7)}
  scene = Scene("v", t0=20.0, t1=500.0)
  assert frame_sampling.extent((scene,), facts, RELEASED).duration == pytest.approx(100.65)
  assert frame_sampling.extent((scene,), facts).duration == pytest.approx(100.75)


def test_parts_of_an_uneven_video_reach_their_last_frame(tmp_path):
  path = odd.encode(tmp_path / "x.mp4", count=len(UNEVEN), times=UNEVEN)
  probes = {path: video.probe(path)}
  ends = dict(name="uniform", frames=300, phase="ends")
  for t0, t1, numbers in [(0.0, None, range(16)), (4.0, 9.15, range(2, 8)), (59, 61, (13, 14, 15))]:
    timeline = (Scene(path, t0=t0, t1=t1),)
    extent = frame_sampling.extent(timeline, probes)
    seconds = frame_sampling.sample_times(ends, 2400, extent)
    frames, _ = video.read_timeline(timeline, seconds, odd.SIDE)
    assert sorted(set(clips.read_numbers(frames))) == list(numbers)
    assert extent.frames == pytest.approx(len(numbers), abs=1)


def test_corners_pass_through_every_frame():
  rng = np.random.default_rng(0)
  for _ in range(50):
    lengths = rng.choice([0.02, 0.04, 0.5, 3.0], rng.integers(1, 200))
    seconds = np.cumsum(lengths) - lengths
    end = float(lengths.sum())
    corners = frame_times.corners(seconds, end)
    facts = Probe(frames=len(seconds), duration=end, corners=corners)
    shown = np.searchsorted(seconds, facts.times(np.arange(len(seconds))), side="right") - 1
    np.testing.assert_array_equal(shown, np.arange(len(seconds)))
  jitter = np.arange(1000) / 30 + rng.uniform(-0.004, 0.004, 1000)
  assert frame_times.corners(jitter - jitter[0], 1000 / 30) == ()
