# SPDX-License-Identifier: Apache-2.0
"""Scenes of a video whose scenes are known."""

import numpy as np
import pytest

from data_pipelines.synthesis import toy
import filax
from filax.testing import tiny_checkpoint

pytestmark = pytest.mark.slow

COLOURS = (np.array([230, 40, 40]), np.array([40, 230, 40]), np.array([40, 40, 230]))


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  return filax.load(tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  """43 seconds of red, 3 of green, 34 of blue, at 2 frames a second."""
  path = tmp_path_factory.mktemp("videos") / "three.mp4"
  lengths = (86, 6, 68)
  noise = np.random.default_rng(0).normal(0, 3, (160, 42, 42, 3))
  frames = np.repeat(np.array(COLOURS), lengths, axis=0)[:, None, None] + noise
  toy.write_video(path, frames.clip(0, 255).astype(np.uint8), fps=2)
  return str(path)


def colour(picture) -> int:
  return int(np.argmin([np.abs(picture.mean((0, 1)) - c).sum() for c in COLOURS]))


def test_the_short_scene_is_found_and_uniform_frames_miss_it(session, video):
  found = session.scenes(filax.read_video(video, 80, 42), count=3)
  assert [colour(scene.thumbnail) for scene in found] == [0, 1, 2]
  assert 43 <= found[1].time < 46
  uniform = session.scenes(filax.read_video(video, 80, 42), count=3, selector="uniform")
  assert len(uniform) == 3 and 1 not in [colour(scene.thumbnail) for scene in uniform]


def test_a_scene_holds_its_frames_in_time_order(session, video):
  decoded = filax.read_video(video, 40, 42)
  found = session.scenes(decoded)
  assert len(found) == session.model.selector.scenes
  assert [scene.time for scene in found] == sorted(scene.time for scene in found)
  for scene in found:
    assert scene.frames.shape == (3, 42, 42, 3) and (np.diff(scene.times) >= 0).all()
    assert scene.time == scene.times[-1]
    np.testing.assert_array_equal(scene.thumbnail, scene.frames[-1])
    place = np.flatnonzero(decoded.times == scene.time)[0]
    np.testing.assert_array_equal(scene.thumbnail, decoded.frames[place])


def test_a_path_is_read_as_the_config_says(session, video):
  assert len(session.scenes(video)) == 2


def test_counts_that_cannot_be_are_refused(session, video):
  with pytest.raises(ValueError, match="count=0"):
    session.scenes(video, count=0)
