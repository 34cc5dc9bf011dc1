# SPDX-License-Identifier: Apache-2.0
"""Real, tiny media for tests: H.264 files whose frames carry their number, and broken ones.

Frame i shows i as 8 bars, white for 1, across its upper third; `number` reads it back at any size
from 16 pixels on, so which frame was decoded is known exactly.
"""

from collections.abc import Sequence
from fractions import Fraction
import json
import os
import pathlib

import av
import numpy as np
from PIL import Image


def drawing(number: int, width: int = 64, height: int = 48) -> np.ndarray:
  """The picture of a frame, uint8 [height width 3]: its number, and a square that moves."""
  picture = np.full((height, width, 3), (70, 90, 50), np.uint8)
  for bit in range(8):
    picture[: height // 3, bit * width // 8 : (bit + 1) * width // 8] = 255 * (number >> bit & 1)
  left = number * 5 % (width - 8)
  picture[height // 2 : height // 2 + 8, left : left + 8] = (220, 60, 60)
  return picture


def number(picture: np.ndarray) -> int:
  """The number that a picture [h w 3] of any size shows."""
  height, width, _ = picture.shape
  row = picture[height // 6].mean(-1)
  return sum(1 << bit for bit in range(8) if row[int((bit + 0.5) * width / 8)] > 127)


def numbers(frames: np.ndarray) -> list[int]:
  """The numbers of frames [T h w 3]."""
  return [number(frame) for frame in frames]


def write(
  path: str | os.PathLike,
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
  """Writes a video and returns its path. `times` (seconds, in steps of 1 ms) make the frame rate
  vary; `rotation`: the file says to turn its frames so many degrees counter-clockwise; `first` is
  the number of its first frame."""
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  movie = {"movflags": "faststart"} if str(path).endswith((".mp4", ".mov")) else {}
  with av.open(str(path), "w", options=movie) as out:
    stream = out.add_stream(codec, rate=fps)
    stream.width, stream.height = (height, width) if rotation % 180 else (width, height)
    stream.pix_fmt = "yuv420p"
    if codec == "libx264":
      stream.options = {"g": str(gop), "preset": "veryfast", "crf": "18"} | (options or {})
      stream.codec_context.thread_count = 1
    tick = Fraction(1, 1000) if times is not None else Fraction(1, fps)
    stream.codec_context.time_base = tick
    if rotation:
      stream.set_display_rotation(rotation)
    tone = _add_sound(out) if sound else None
    for i in range(frames):
      stored = np.rot90(drawing(first + i, width, height), -rotation // 90)
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="rgb24")
      frame.time_base, frame.pts = tick, i if times is None else round(times[i] * 1000)
      out.mux(stream.encode(frame))
    out.mux(stream.encode())
    if sound:
      _play(out, tone, frames / fps)
  return str(path)


def sound(path: str | os.PathLike, seconds: float = 1.0) -> str:
  """An audio file without video."""
  with av.open(str(path), "w") as out:
    _play(out, _add_sound(out), seconds)
  return str(path)


def _add_sound(out):
  return out.add_stream("aac", rate=16000, layout="mono")


def _play(out, stream, seconds: float):
  wave = np.sin(np.arange(int(16000 * seconds)) * 0.1).astype(np.float32)
  for begin in range(0, len(wave), 1024):
    frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + 1024], "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = 16000, begin, Fraction(1, 16000)
    out.mux(stream.encode(frame))
  out.mux(stream.encode())


def picture(path: str | os.PathLike, shown: int = 0, width: int = 64, height: int = 48) -> str:
  """A still picture that shows a number."""
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(drawing(shown, width, height)).save(path)
  return str(path)


def folder(path: str | os.PathLike, frames: int = 12, extension: str = "png") -> str:
  """A folder of numbered pictures frame0.png … frame11.png: only natural order is right."""
  for i in range(frames):
    picture(pathlib.Path(path, f"frame{i}.{extension}"), i)
  return str(path)


def manifest(path: str | os.PathLike, records: list) -> str:
  """Writes records as .json (an array, one record a line) or .jsonl."""
  lines = [json.dumps(record) for record in records]
  text = "\n".join(lines) if str(path).endswith(".jsonl") else "[\n" + ",\n".join(lines) + "\n]"
  pathlib.Path(path).write_text(text + "\n")
  return str(path)


def record(question: str = "What is seen?", answer: str = "Bars.", **more) -> dict:
  """A record of one question and one answer; media by keyword, as video="a.mp4"."""
  said = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
  return {"conversations": said} | more


def truncated(path: str | os.PathLike) -> str:
  """The first 60 % of a file that has its index at the front."""
  data = pathlib.Path(write(path)).read_bytes()
  pathlib.Path(path).write_bytes(data[: len(data) * 6 // 10])
  return str(path)


def without_index(path: str | os.PathLike) -> str:
  """A recording that was killed before it wrote its index (the moov box)."""
  data = pathlib.Path(write(path)).read_bytes()
  start, media = data.find(b"moov") - 4, data.find(b"mdat") - 4
  pathlib.Path(path).write_bytes(data[:start] + data[media:])
  return str(path)


def corrupt(path: str | os.PathLike) -> str:
  """A sound head and tail around a middle of zeros: frames 0..9 can be read."""
  data = bytearray(pathlib.Path(write(path)).read_bytes())
  media = data.find(b"mdat") + 4
  begin, end = media + (len(data) - media) * 45 // 100, media + (len(data) - media) * 55 // 100
  data[begin:end] = bytes(end - begin)
  pathlib.Path(path).write_bytes(data)
  return str(path)


def empty(path: str | os.PathLike) -> str:
  """A file of no bytes."""
  pathlib.Path(path).write_bytes(b"")
  return str(path)


def noise(path: str | os.PathLike) -> str:
  """A file of random bytes."""
  pathlib.Path(path).write_bytes(np.random.default_rng(0).bytes(5000))
  return str(path)


def missing(path: str | os.PathLike) -> str:
  """No file at all."""
  return str(path)


# name -> (how it is made, what its error says). The corrupt one fails when its middle is read.
BROKEN = {
  "empty.mp4": (empty, "is empty"),
  "truncated.mp4": (truncated, "is truncated"),
  "sound_only.mp4": (sound, "has no video stream"),
  "without_index.mp4": (without_index, "Invalid data found"),
  "noise.mp4": (noise, "Invalid data found"),
  "missing.mp4": (missing, "does not exist"),
  "corrupt.mp4": (corrupt, "Invalid data found|is damaged"),
}
