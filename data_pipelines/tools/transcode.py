# SPDX-License-Identifier: Apache-2.0
"""Media as the bytes of one file: as they are, or as a smaller copy that is cheap to decode."""

from collections.abc import Iterator
import dataclasses
from fractions import Fraction
import io
import itertools
import pathlib

import av
import numpy as np
from PIL import Image

from data_pipelines.media import open as media_lib
from data_pipelines.media import pictures
from data_pipelines.media.container import kind, open_video
from data_pipelines.media.decoder import Decoder, picture, shown_size
from data_pipelines.media.open import Media, MediaError
from data_pipelines.media.probe import probe


@dataclasses.dataclass(frozen=True)
class Proxy:
  """How long videos are copied: seven to ten times cheaper to decode, at the same times."""

  fps: float = 2.0
  side: int = 384  # Of the shorter side, in pixels.
  beyond: float = 60.0  # Seconds. Shorter videos stay whole: sampling densely needs all frames.

  @classmethod
  def parse(cls, text: str) -> "Proxy":
    """Proxy.parse("2,384"); ValueError for anything but a rate and a number of pixels."""
    try:
      fps, side = text.split(",")
      found = cls(float(fps), int(side))
    except ValueError:
      found = cls(0, 0)
    if not 0 < found.fps <= 120 or found.side < 16 or found.side % 2:
      raise ValueError(
        f"--proxy {text!r} is no rate (to 120) and even number of pixels (from 16), as in 2,384."
      )
    return found


def content(media: Media, proxy: Proxy | None = None) -> bytes:
  """A medium as the bytes of one file. Raises MediaError for what cannot be read.

  A folder of pictures becomes a video of its rate; videos longer than proxy.beyond become proxies.
  """
  facts = probe(media)
  if facts.error:
    raise MediaError(facts.error)
  what = kind(media)
  if what == "folder":
    return encode(_pictures(media), facts.fps)
  if what == "video" and proxy and facts.duration > proxy.beyond:
    return encode(_sampled(media, facts.last_time, proxy), proxy.fps)
  if media_lib.is_packed(media):
    return media_lib.read_bytes(media)
  with media_lib.reported(media):
    return pathlib.Path(media).read_bytes()


def encode(pictures: Iterator[np.ndarray], fps: float) -> bytes:
  """Pictures uint8 [h w 3] of one even size as an H.264 file: a key frame every two seconds, no
  frames out of order, so that jumps are cheap."""
  out, first = io.BytesIO(), next(pictures)
  rate = Fraction(fps).limit_denominator(1000)
  with av.open(out, "w", format="mp4") as container:
    stream = container.add_stream("libx264", rate=rate)
    stream.height, stream.width, _ = first.shape
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": "20", "g": str(max(1, round(2 * fps))), "bf": "0"}
    stream.codec_context.time_base = 1 / rate
    for number, shown in enumerate(itertools.chain([first], pictures)):
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format="rgb24")
      frame.pts, frame.time_base = number, 1 / rate
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return out.getvalue()


def _sampled(media: Media, last: float, proxy: Proxy) -> Iterator[np.ndarray]:
  """What is on screen every 1/fps seconds, with a shorter side of proxy.side."""
  with open_video(media) as video, media_lib.reported(media):
    decoder = Decoder(video, lambda frame: picture(frame, *_scaled(*shown_size(frame), proxy.side)))
    for number in range(int(last * proxy.fps + 1e-6) + 1):
      yield decoder.at(number / proxy.fps)[1]()


def _pictures(folder: Media) -> Iterator[np.ndarray]:
  """The pictures of a folder, all of the even size of the first."""
  size = None
  for path in media_lib.folder(folder):
    shown = Image.fromarray(pictures.read_image(path))
    size = size or _scaled(*shown.size, min(shown.size))
    yield np.asarray(shown.resize(size, Image.Resampling.BICUBIC))


def _scaled(width: int, height: int, side: int) -> tuple[int, int]:
  """Even (width, height) with a shorter side of about `side`, never enlarged."""
  scale = min(1.0, side / min(width, height))
  return tuple(max(2, round(length * scale / 2) * 2) for length in (width, height))
