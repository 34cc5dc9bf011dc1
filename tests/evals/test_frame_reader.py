# SPDX-License-Identifier: Apache-2.0
"""Decoded frames that are kept for the next evaluation are those of the file."""

import types

import numpy as np
import pytest

from data_pipelines.media.frames import read_frames
from filax.evals.reading import frame_reader
from filax.testing import clips


@pytest.fixture
def loaded():
  encoder = types.SimpleNamespace(size=32)
  return types.SimpleNamespace(model=types.SimpleNamespace(encoder=encoder))


def test_kept_frames_are_those_of_the_file(loaded, tmp_path):
  path = tmp_path / "a.mp4"
  clips.write_video(path, 20, 10)
  times = [0.0, 0.7, 1.9]
  read = frame_reader(loaded, tmp_path / "kept")
  expected, seconds = read_frames(str(path), times, 32)
  for _ in range(2):
    frames, real = read(str(path), times, 32)
    np.testing.assert_array_equal(frames, expected)
    np.testing.assert_array_equal(real, seconds)
  assert list((tmp_path / "kept").iterdir())


def test_without_a_folder_nothing_is_kept(loaded):
  assert frame_reader(loaded, "") is read_frames
