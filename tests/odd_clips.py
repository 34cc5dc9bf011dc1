# SPDX-License-Identifier: Apache-2.0
"""Small videos whose clocks, indices or streams are unusual, each with what a player shows of it.

Frames show their numbers (clips.draw_number) and are square, so that they can be compared without
resizing.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
import os
import pathlib

import av
import numpy as np

from filax.testing import clips

SIDE = 64  # Pixels.
FPS = 10


def encode(
  path: str | os.PathLike,
  codec: str = "libx264",
  count: int = 40,
  *,
  first: int = 0,
  form: str | None = None,
  options: dict[str, str] | None = None,
  pixels: str = "yuv420p",
  times: Sequence[float] | None = None,
  start: float = 0.0,
  muxer: dict[str, str] | None = None,
) -> str:
  """Writes `count` frames numbered from `first`, 10 a second or at `times`; returns the path.

  start: seconds of the file's clock at its first frame. form: the container's name. muxer: its
  options.
  """
  times = np.arange(count) / FPS if times is None else times
  tick = Fraction(1, 90000)
  with av.open(str(path), "w", format=form, options=muxer or {}) as out:
    stream = out.add_stream(codec, rate=FPS, options=options or {})
    stream.width = stream.height = SIDE
    stream.pix_fmt = pixels
    stream.codec_context.thread_count = 1
    stream.codec_context.time_base = Fraction(1, FPS) if start == 0 and _even(times) else tick
    for number, second in enumerate(times):
      frame = av.VideoFrame.from_ndarray(clips.draw_number(first + number, SIDE, SIDE), "rgb24")
      frame.time_base = tick
      frame.pts = round((start + second) * 90000)
      out.mux(stream.encode(frame))
    out.mux(stream.encode())
  return str(path)


def _even(times) -> bool:
  return np.allclose(times, np.arange(len(times)) / FPS)


def remux(
  source: str,
  path: str | os.PathLike,
  change: Callable[[av.Packet, int], bool | None],
  form: str | None = None,
  muxer: dict[str, str] | None = None,
) -> str:
  """Copies the packets of a video. change(packet, its number) edits one; False leaves it out."""
  with av.open(source) as old, av.open(str(path), "w", format=form, options=muxer or {}) as new:
    stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
    packets = [p for p in old.demux(old.streams.video[0]) if p.size]
    for number, packet in enumerate(packets):
      if change(packet, number) is not False:
        packet.stream = stream
        new.mux(packet)
  return str(path)


def shifted(source: str, path: str | os.PathLike, seconds: float, **more) -> str:
  """A copy whose clock reads `seconds` more."""

  def later(packet, number):
    ticks = round(seconds / packet.time_base)
    packet.pts += ticks
    packet.dts += ticks

  return remux(source, path, later, **more)


def beheaded(source: str, path: str | os.PathLike, lost: int, **more) -> str:
  """A copy without its first packets, so that it begins between key frames."""
  return remux(source, path, lambda packet, number: number >= lost, **more)


def joined(path: str | os.PathLike, *parts: str) -> str:
  """The bytes of several files one after the other."""
  pathlib.Path(path).write_bytes(b"".join(pathlib.Path(part).read_bytes() for part in parts))
  return str(path)


def by_decoding_order(source: str, path: str | os.PathLike, **more) -> str:
  """A copy of a video 10 frames a second that claims to show frames as it decodes them."""

  def flatten(packet, number):
    packet.pts = packet.dts = round(number / FPS / packet.time_base)

  return remux(source, path, flatten, **more)


def vfw(path: pathlib.Path) -> str:
  """H.264 with frames out of order in Matroska as a track of Video for Windows."""
  plain = encode(path.with_suffix(".avi"), options={"bf": "2", "g": "10"})
  with av.open(plain) as old:
    packets = [p for p in old.demux(old.streams.video[0]) if p.size]
  side = SIDE.to_bytes(4, "little")
  bitmap = bytes([40, 0, 0, 0]) + side + side + bytes([1, 0, 24, 0]) + b"H264" + bytes(20)
  track = (
    _element("D7", b"\1")
    + _element("73C5", b"\1")
    + _element("83", b"\1")
    + _element("86", b"V_MS/VFW/FOURCC")
    + _element("63A2", bitmap)
    + _element("E0", _element("B0", bytes([SIDE])) + _element("BA", bytes([SIDE])))
  )
  blocks = [
    _element(
      "A3",
      b"\x81"
      + (number * 1000 // FPS).to_bytes(2, "big")
      + (b"\x80" if packet.is_keyframe else b"\0")
      + bytes(packet),
    )
    for number, packet in enumerate(packets)
  ]
  segment = (
    _element("1549A966", _element("2AD7B1", (1_000_000).to_bytes(3, "big")))
    + _element("1654AE6B", _element("AE", track))
    + _element("1F43B675", _element("E7", b"\0") + b"".join(blocks))
  )
  header = _element("1A45DFA3", _element("4282", b"matroska"))
  path.write_bytes(header + _element("18538067", segment))
  return str(path)


def _element(name: str, content: bytes) -> bytes:
  """An element of EBML, the syntax of Matroska."""
  return bytes.fromhex(name) + b"\x01" + len(content).to_bytes(7, "big") + content


def palettes(path: str | os.PathLike, codec: str, changes: bool = False) -> str:
  """Frames of 8-bit indices whose palette is not grey; with `changes` it turns at frame 20."""
  colours = np.zeros((256, 4), np.uint8)
  colours[:, 0] = 255  # Opaque; ARGB.
  colours[:4, 1:] = [[255] * 3, [0] * 3, [220, 60, 60], [70, 90, 50]]  # Bars' white is index 0.
  with av.open(str(path), "w") as out:
    stream = out.add_stream(codec, rate=FPS)
    stream.width = stream.height = SIDE
    stream.pix_fmt = "pal8"
    for number in range(40):
      picture = clips.draw_number(number, SIDE, SIDE)
      distances = np.abs(picture[:, :, None].astype(int) - colours[:4, 1:]).sum(-1)
      index = distances.argmin(-1).astype(np.uint8)
      table = colours
      if changes and number >= 20:
        index = np.uint8(9) - index
        table = colours.copy()
        table[6:10] = colours[3::-1]
      frame = av.VideoFrame.from_ndarray((index, table), "pal8")
      frame.pts, frame.time_base = number, Fraction(1, FPS)
      out.mux(stream.encode(frame))
    out.mux(stream.encode())
  return str(path)


def turned(source: str, path: pathlib.Path, matrix: Sequence[int]) -> str:
  """A copy of a video that says how to move its points: (a, b, c, d) of its display matrix."""
  data = pathlib.Path(source).read_bytes()
  identity = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
  a, b, c, d = (number << 16 for number in matrix)
  place = data.index(b"tkhd")
  assert data.index(identity, place) < place + 100
  wanted = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
  path.write_bytes(data[:place] + data[place:].replace(identity, wanted, 1))
  return str(path)


def two_streams(path: str | os.PathLike, default: int) -> str:
  """Two videos in one file, 0.. small and 100.. large; a player shows the one marked `default`."""
  with av.open(str(path), "w") as out:
    streams = []
    for place, side in enumerate((SIDE, 2 * SIDE)):
      stream = out.add_stream("libx264", rate=FPS)
      stream.width = stream.height = side
      stream.pix_fmt = "yuv420p"
      stream.disposition = av.stream.Disposition.default if place == default else 0
      streams.append(stream)
    for number in range(20):
      for place, stream in enumerate(streams):
        picture = clips.draw_number(100 * place + number, stream.width, stream.height)
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        out.mux(stream.encode(frame))
    for stream in streams:
      out.mux(stream.encode())
  return str(path)


def interlaced(path: str | os.PathLike, side: int) -> str:
  """Frames of two moments each: a bar moves by 8 pixels from field to field."""
  with av.open(str(path), "w") as out:
    stream = out.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme", "q:v": "2"})
    stream.width = stream.height = side
    stream.pix_fmt = "yuv420p"
    stream.codec_context.qmin = stream.codec_context.qmax = 2
    for number in range(5):
      picture = np.full((side, side, 3), 40, np.uint8)
      for field in (0, 1):
        left = 16 * number + 8 * field
        picture[field::2, left : left + 8] = 220
      frame = av.VideoFrame.from_ndarray(picture, "rgb24")
      frame.pts, frame.time_base = number, Fraction(1, 25)
      out.mux(stream.encode(frame))
    out.mux(stream.encode())
  return str(path)
