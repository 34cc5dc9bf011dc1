# SPDX-License-Identifier: Apache-2.0
"""The one H.264 writer: what is read back, and the bytes of what is written with it."""

from fractions import Fraction
import io

import av
import numpy as np
import pytest

from data_pipelines.media.encoder import write_h264
from data_pipelines.synthesis import toy
from filax.testing import clips

SHARP = {"crf": "18", "g": "10", "preset": "veryfast"}


def drawings(count: int) -> list[np.ndarray]:
  return [clips.draw_number(number) for number in range(count)]


@pytest.mark.parametrize("fps", [2, 10, 29.97])
def test_frames_are_shown_at_their_times(fps):
  file = io.BytesIO()
  write_h264(file, drawings(12), fps, SHARP)
  frames, seconds = clips.read_all(file.getvalue(), 32)
  assert clips.read_numbers(frames) == list(range(12))
  np.testing.assert_allclose(seconds, np.arange(12) / fps, atol=1e-3)


def test_a_path_and_a_file_hold_the_same_bytes(tmp_path):
  file = io.BytesIO()
  write_h264(file, drawings(12), 10, SHARP, threads=1)
  write_h264(tmp_path / "a.mp4", iter(drawings(12)), 10, SHARP, threads=1)
  assert (tmp_path / "a.mp4").read_bytes() == file.getvalue()


def written_in_place(frames: np.ndarray) -> bytes:
  """A video of the toy corpus as PyAV alone writes it."""
  file = io.BytesIO()
  options = {"crf": "23", "preset": "veryfast", "g": "20", "x264-params": "mbtree=0"}
  with av.open(file, "w", format="mp4") as out:
    stream = out.add_stream("libx264", rate=2, options=options)
    stream.width = stream.height = frames.shape[1]
    stream.pix_fmt = "yuv420p"
    stream.thread_count = 1
    for number, picture in enumerate(frames):
      frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
      frame.pts = number
      frame.time_base = Fraction(1, 2)
      out.mux(stream.encode(frame))
    out.mux(stream.encode())
  return file.getvalue()


def test_toy_videos_keep_their_bytes(tmp_path):
  frames = np.stack([drawing[:48, :48] for drawing in drawings(30)])
  toy.write_video(tmp_path / "a.mp4", frames)
  assert (tmp_path / "a.mp4").read_bytes() == written_in_place(frames)
