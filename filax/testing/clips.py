# SPDX-License-Identifier: Apache-2.0
"""Real, tiny media.

H.264 files and pictures that show their number, and broken files.

Frame i shows i as 8 bars, white for 1, across its upper third. `read_number` reads it back at any
size from 16 pixels on, so a test knows exactly which frame was decoded.
"""

from collections.abc import Sequence
from fractions import Fraction
import os
import pathlib
from typing import Any, cast

import av
import numpy as np
from PIL import Image

from data_pipelines.media.frames import walk
from data_pipelines.media.open import Media

BITS = 8
BACKGROUND = (70, 90, 50)
SQUARE = (220, 60, 60)
SAMPLE_RATE = 16000  # Hz of the sound.
SOUND_FRAME = 1024  # Samples.

Path = str | os.PathLike


def draw_number(number: int, width: int = 64, height: int = 48) -> np.ndarray:
  """The picture of a frame, uint8 [height width 3].

  It shows the frame's number and a moving square.
  """
  picture = np.full((height, width, 3), BACKGROUND, np.uint8)
  for bit in range(BITS):
    start = bit * width // BITS
    stop = (bit + 1) * width // BITS
    picture[: height // 3, start:stop] = 255 * (number >> bit & 1)
  x = number * 5 % (width - 8)
  y = height // 2
  picture[y : y + 8, x : x + 8] = SQUARE
  return picture


def read_number(picture: np.ndarray) -> int:
  """The number that a picture [h w 3] of any size shows."""
  height, width, _ = picture.shape
  brightness = picture[height // 6].mean(-1)
  number = 0
  for bit in range(BITS):
    middle = int((bit + 0.5) * width / BITS)
    if brightness[middle] > 127:
      number += 1 << bit
  return number


def read_numbers(frames: np.ndarray) -> list[int]:
  """The numbers of frames [T h w 3]."""
  return [read_number(frame) for frame in frames]


def read_all(media: Media, size: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
  """All frames of a medium, and their times.

  Frames are uint8 [n size size 3], times float64 [n].
  """
  seconds, frames = zip(*walk(media, size, **options), strict=True)
  return np.stack(frames), np.asarray(seconds, np.float64)


def write_video(
  path: Path,
  frames: int = 40,
  fps: int = 10,
  *,
  width: int = 64,
  height: int = 48,
  gop: int = 10,
  times: Sequence[float] | None = None,
  rotation: int = 0,
  sound: bool = False,
  codec: str = "libx264",
  options: dict[str, str] | None = None,
  first: int = 0,
) -> str:
  """Writes a video and returns its path.

  gop: the number of frames from a key frame to the next.
  times: the seconds of the frames, in steps of 1 ms, for a varying frame rate.
  rotation: the degrees counter-clockwise by which the file says to turn its frames.
  options: options of the encoder.
  first: the number of the first frame.
  """
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  muxer = {"movflags": "faststart"} if str(path).endswith((".mp4", ".mov")) else {}
  with av.open(str(path), "w", options=muxer) as container:
    stream = cast(av.VideoStream, container.add_stream(codec, rate=fps))  # By the codec's name.
    stream.width = height if rotation % 180 else width
    stream.height = width if rotation % 180 else height
    stream.pix_fmt = "yuv420p"
    if codec == "libx264":
      defaults = {"g": str(gop), "preset": "veryfast", "crf": "18"}
      stream.options = {**defaults, **(options or {})}
      stream.codec_context.thread_count = 1
    tick = Fraction(1, 1000) if times is not None else Fraction(1, fps)
    stream.codec_context.time_base = tick
    if rotation:
      stream.set_display_rotation(rotation)
    audio = _add_audio(container) if sound else None
    for i in range(frames):
      stored = np.rot90(draw_number(first + i, width, height), -rotation // 90)
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="rgb24")
      frame.time_base = tick
      frame.pts = i if times is None else round(times[i] * 1000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
    if audio is not None:
      _write_tone(container, audio, frames / fps)
  return str(path)


def write_sound(path: Path, seconds: float = 1.0) -> str:
  """Writes an audio file without video."""
  with av.open(str(path), "w") as container:
    _write_tone(container, _add_audio(container), seconds)
  return str(path)


def _add_audio(container):
  return container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")


def _write_tone(container, stream, seconds: float) -> None:
  """Encodes a sine wave."""
  wave = np.sin(np.arange(int(SAMPLE_RATE * seconds)) * 0.1).astype(np.float32)
  for begin in range(0, len(wave), SOUND_FRAME):
    samples = wave[None, begin : begin + SOUND_FRAME]
    frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
    frame.sample_rate = SAMPLE_RATE
    frame.pts = begin
    frame.time_base = Fraction(1, SAMPLE_RATE)
    container.mux(stream.encode(frame))
  container.mux(stream.encode())


def write_picture(path: Path, number: int = 0, width: int = 64, height: int = 48) -> str:
  """Writes a still picture that shows a number."""
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(draw_number(number, width, height)).save(path)
  return str(path)


def write_picture_folder(path: Path, frames: int = 12, extension: str = "png") -> str:
  """Writes a folder frame0.png … frame11.png: only natural order is right."""
  for i in range(frames):
    write_picture(pathlib.Path(path, f"frame{i}.{extension}"), i)
  return str(path)


def write_truncated(path: Path) -> str:
  """Writes the first 60 % of a file.

  The file has its index at the front.
  """
  data = pathlib.Path(write_video(path)).read_bytes()
  pathlib.Path(path).write_bytes(data[: len(data) * 6 // 10])
  return str(path)


def write_without_index(path: Path) -> str:
  """Writes a recording without its index (the moov box).

  A recorder that is killed leaves such a file.
  """
  data = pathlib.Path(write_video(path)).read_bytes()
  index = data.find(b"moov") - 4
  media = data.find(b"mdat") - 4
  pathlib.Path(path).write_bytes(data[:index] + data[media:])
  return str(path)


def write_corrupt(path: Path) -> str:
  """Writes a file whose middle is zeros.

  Head and tail are intact; frames 0..9 can be read.
  """
  data = bytearray(pathlib.Path(write_video(path)).read_bytes())
  media = data.find(b"mdat") + 4
  size = len(data) - media
  begin = media + size * 45 // 100
  end = media + size * 55 // 100
  data[begin:end] = bytes(end - begin)
  pathlib.Path(path).write_bytes(data)
  return str(path)


def write_empty(path: Path) -> str:
  """Writes a file of no bytes."""
  pathlib.Path(path).write_bytes(b"")
  return str(path)


def write_noise(path: Path) -> str:
  """Writes a file of random bytes."""
  pathlib.Path(path).write_bytes(np.random.default_rng(0).bytes(5000))
  return str(path)


def missing_path(path: Path) -> str:
  """Writes no file at all."""
  return str(path)


# Name -> (function that writes the file, regex of its error). The corrupt file fails only when its
# middle is read.
BROKEN_VIDEOS = {
  "empty.mp4": (write_empty, "is empty"),
  "truncated.mp4": (write_truncated, "is truncated"),
  "sound_only.mp4": (write_sound, "has no video stream"),
  "without_index.mp4": (write_without_index, "has no index"),
  "noise.mp4": (write_noise, "Invalid data found"),
  "missing.mp4": (missing_path, "does not exist"),
  "corrupt.mp4": (write_corrupt, "is damaged after"),
}
