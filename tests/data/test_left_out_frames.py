# SPDX-License-Identifier: Apache-2.0
"""Frames that no wanted time shows are not decoded, and the shown ones are the same."""

import numpy as np
import pytest

from data_pipelines.media import decoder, encoder, reader
from data_pipelines.media.frames import read_frames
from filax.testing import clips

FPS = 10


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  """90 frames with three successive B-frames each, key frames 30 apart."""
  path = tmp_path_factory.mktemp("video") / "a.mp4"
  rng = np.random.default_rng(0)
  texture = rng.integers(0, 256, (30, 40, 3), np.uint8).repeat(4, 0).repeat(4, 1)
  pictures = [
    texture[number // 2 : number // 2 + 64, number % 50 :][:, :96] for number in range(90)
  ]
  options = {"g": "30", "bf": "3", "b-adapt": "0", "sc_threshold": "0"}
  encoder.write_h264(path, pictures, FPS, options)
  return path


@pytest.fixture(scope="module")
def all_frames(video):
  frames, _ = clips.read_all(video, 32)
  return frames


def wanted(step, first=3):
  numbers = np.arange(first, 90, step)
  return numbers, (numbers + 0.5) / FPS


@pytest.mark.parametrize("step", [1, 2, 3, 7, 31])
def test_shown_frames_are_those_of_a_walk(video, all_frames, step):
  numbers, times = wanted(step)
  frames, seconds = read_frames(video, times, 32)
  assert np.array_equal(frames, all_frames[numbers])
  np.testing.assert_allclose(seconds, numbers / FPS, atol=1e-6)


def test_frames_between_are_not_decoded(video, monkeypatch):
  decoded = []
  original = reader.PacketReader._decoded

  def count(self, packet, *rest):
    frames = original(self, packet, *rest)
    decoded.extend(frames)
    return frames

  monkeypatch.setattr(reader.PacketReader, "_decoded", count)
  _, times = wanted(7)
  read_frames(video, times, 32)
  assert len(decoded) < 60  # Two of three B-frames have no dependent frames.


@pytest.mark.parametrize("harm", ["shifted", "sparse"])
def test_a_misleading_index_does_not_change_frames(video, all_frames, monkeypatch, harm):
  """Times in the index that no frame has, and frames that the index does not tell."""
  original = decoder.ShownFrames.__init__

  def mislead(self, ticks, *rest):
    ticks = np.array(ticks)
    if harm == "shifted":
      ticks[40:] -= (ticks[1] - ticks[0]) // 2
    else:
      ticks = np.delete(ticks, np.arange(41, 90, 3))
    original(self, ticks.tolist(), *rest)

  monkeypatch.setattr(decoder.ShownFrames, "__init__", mislead)
  numbers, times = wanted(3)
  frames, _ = read_frames(video, times, 32)
  assert np.array_equal(frames, all_frames[numbers])


def test_a_request_of_the_end_alone(video, all_frames):
  frames, seconds = read_frames(video, [8.85, 99.0], 32)
  assert np.array_equal(frames, all_frames[[88, 89]])
  np.testing.assert_allclose(seconds, [8.8, 8.9], atol=1e-6)
