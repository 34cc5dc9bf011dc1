# SPDX-License-Identifier: Apache-2.0
"""Readers of video files behind the rows of benchmarks/rows/loader.py, and the clips they read.

A reader gives 64 uniform frames, or one a second, as RGB of 384 x 384, on one thread. The folder of
the clips is $FILAX_BENCH_CLIPS (default: the temporary one); they are made once.
"""

from collections.abc import Callable, Iterator
import itertools
import os
import pathlib
import tempfile

import numpy as np

from data_pipelines.mapped import one_builder
from data_pipelines.media.encoder import write_h264
from filax import files

SIZE = 384  # Side of a frame that is read.
UNIFORM = 64  # Frames of a request of uniform sampling.
RATE = 30  # Frames a second of the clips.
Reader = Callable[[str, np.ndarray], int]  # (path, frame numbers) -> frames that were read.


def clip(height: int, gop: int, seconds: int) -> str:
  """The path of an H.264 clip, made once."""
  folder = pathlib.Path(os.environ.get("FILAX_BENCH_CLIPS", tempfile.gettempdir()))
  path = folder / f"filax-loader-{height}p-gop{gop}-{seconds}s.mp4"
  with one_builder(folder / "filax-loader", "writes a clip"):  # All sides begin at once.
    if not path.exists():
      options = {"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0"}
      options |= {"preset": "veryfast", "crf": "26"}
      with files.write_atomically(path) as file:
        write_h264(file, _pictures(height, seconds * RATE), RATE, options)
  return str(path)


def _pictures(height: int, count: int) -> Iterator[np.ndarray]:
  """A camera that moves over a texture with grain.

  uint8 [height width 3].
  """
  rng = np.random.default_rng(0)
  width = height * 16 // 9 // 2 * 2
  coarse = rng.integers(0, 256, (height // 8 + 32, width // 8 + 32, 3), np.uint8)
  texture = coarse.repeat(12, 0).repeat(12, 1)
  grain = rng.integers(0, 12, (8, height, width, 1), np.uint8)
  for number in range(count):
    down = round(60 + 50 * np.sin(number / 37))
    right = round(60 + 50 * np.cos(number / 23))
    window = texture[down : down + height, right : right + width]
    yield window // 2 + 40 + grain[number % 8]


def wanted_frames(count: int, sampling: str) -> np.ndarray:
  """The numbers of the frames of a request, int64 [n]."""
  if sampling == "1fps":
    return np.arange(0, count, RATE)
  return np.linspace(0, count - 1, UNIFORM).round().astype(np.int64)


def filax_reader() -> Reader:
  """The project's reader."""
  from data_pipelines.media.frames import read_frames

  def read_clip(path: str, numbers: np.ndarray) -> int:
    frames, _ = read_frames(path, (numbers + 0.5) / RATE, SIZE)
    return len(frames)

  return read_clip


def decord_reader() -> Reader:
  """decord, which resizes while it decodes."""
  import decord

  def read_clip(path: str, numbers: np.ndarray) -> int:
    video = decord.VideoReader(path, width=SIZE, height=SIZE, num_threads=1)
    return len(video.get_batch(numbers).asnumpy())

  return read_clip


def opencv_reader() -> Reader:
  """OpenCV, which decodes every frame and converts the wanted ones."""
  import cv2

  cv2.setNumThreads(1)

  def read_clip(path: str, numbers: np.ndarray) -> int:
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = []
    wanted = set(numbers.tolist())
    for number in range(max(wanted) + 1):
      capture.grab()
      if number in wanted:
        _, picture = capture.retrieve()
        small = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        frames.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
    capture.release()
    return len(np.stack(frames))

  return read_clip


def pyav_reader() -> Reader:
  """PyAV, which decodes every frame and converts the wanted ones."""
  import av

  def read_clip(path: str, numbers: np.ndarray) -> int:
    frames = []
    wanted = set(numbers.tolist())
    with av.open(path) as container:
      stream = container.streams.video[0]
      stream.thread_type = "NONE"
      for number, frame in enumerate(itertools.islice(container.decode(stream), max(wanted) + 1)):
        if number in wanted:
          small = frame.reformat(SIZE, SIZE, "rgb24", interpolation="BICUBIC", threads=1)
          frames.append(small.to_ndarray())
    return len(np.stack(frames))

  return read_clip


def torchcodec_reader() -> Reader:
  """torchcodec, exact seeks; its frames are resized by torch."""
  import torch
  from torchcodec.decoders import VideoDecoder

  torch.set_num_threads(1)

  def read_clip(path: str, numbers: np.ndarray) -> int:
    decoder = VideoDecoder(path, num_ffmpeg_threads=1)
    small = []
    for number in numbers.tolist():
      frame = decoder.get_frame_at(number).data[None]
      size = (SIZE, SIZE)
      small.append(torch.nn.functional.interpolate(frame, size, mode="bicubic", antialias=True)[0])
    return len(torch.stack(small))

  return read_clip
