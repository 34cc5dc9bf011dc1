# SPDX-License-Identifier: Apache-2.0
"""Re-encodes long videos at a low frame rate and size."""

from collections.abc import Iterator
import dataclasses
import io
import pathlib

import numpy as np
from PIL import Image

from data_pipelines.media import open as media_lib
from data_pipelines.media import pictures, remote
from data_pipelines.media.container import media_kind, open_video
from data_pipelines.media.decoder import VideoDecoder, picture, shown_size
from data_pipelines.media.encoder import write_h264
from data_pipelines.media.open import Media, MediaError
from data_pipelines.media.probe import probe

_MOST_FPS = 120
_SMALLEST_SIDE = 16  # Pixels.
_QUALITY = "20"  # x264's crf.
_KEY_FRAME_SECONDS = 2
_ROUNDING = 1e-6  # Rounding error of a number of frames.


@dataclasses.dataclass(frozen=True)
class Proxy:
  """The smaller copies of long videos.

  They have the same times and are seven to ten times cheaper to decode.
  """

  fps: float = 2.0
  side: int = 384  # The shorter side, in pixels.
  beyond: float = 60.0  # Seconds. Shorter videos are unchanged: dense sampling needs all frames.

  @classmethod
  def from_text(cls, text: str) -> "Proxy":
    """Parses "fps,side": Proxy.from_text("2,384").

    Raises ValueError for an invalid rate or number of pixels.
    """
    try:
      fps, side = text.split(",")
      proxy = cls(float(fps), int(side))
    except ValueError:
      proxy = cls(0, 0)
    right_rate = 0 < proxy.fps <= _MOST_FPS
    right_side = proxy.side >= _SMALLEST_SIDE and proxy.side % 2 == 0
    if not right_rate or not right_side:
      raise ValueError(
        f"--proxy {text!r} is not a rate (to {_MOST_FPS}) and even number of pixels (from "
        f"{_SMALLEST_SIDE}), as in 2,384."
      )
    return proxy


def stored_content(media: Media, proxy: Proxy | None = None) -> bytes:
  """A medium as the bytes of one file.

  A folder of pictures becomes a video of its rate; videos longer than proxy.beyond become proxies;
  other media are unchanged. Raises MediaError for an unreadable medium.
  """
  facts = probe(media)
  if facts.error:
    raise MediaError(facts.error)
  file_kind = media_kind(media)
  if file_kind == "folder":
    return _encode(_folder_pictures(media), facts.fps)
  if file_kind == "video" and proxy and facts.duration > proxy.beyond:
    sampled = _sampled_pictures(media, facts.last_time, proxy)
    return _encode(sampled, proxy.fps)
  if isinstance(media, bytes) or media_lib.is_packed(media):
    return media_lib.read_bytes(media)
  with media_lib.reported(media):
    return pathlib.Path(remote.local_path(media_lib.file_path(media))).read_bytes()


def _encode(frames: Iterator[np.ndarray], fps: float) -> bytes:
  """Encodes pictures as the bytes of an H.264 file.

  Pictures are uint8 [h w 3] of the same even size. Seeking is cheap: the file has a key frame every
  two seconds and no reordered frames.
  """
  file = io.BytesIO()
  key_frame_interval = max(1, round(_KEY_FRAME_SECONDS * fps))
  options = {
    "crf": _QUALITY,
    "g": str(key_frame_interval),
    "bf": "0",
  }
  write_h264(file, frames, fps, options)
  return file.getvalue()


def _sampled_pictures(
  media: Media,
  last: float,
  proxy: Proxy,
) -> Iterator[np.ndarray]:
  """The frames on screen every 1/fps seconds, shrunk to proxy.side.

  proxy.side is the shorter side.
  """

  def shrink(frame):
    width, height = shown_size(frame)
    width, height = _even_size(width, height, proxy.side)
    return picture(frame, width, height)

  with open_video(media) as video, media_lib.reported(media):
    decoder = VideoDecoder(video, shrink)
    count = int(last * proxy.fps + _ROUNDING) + 1
    for number in range(count):
      _, show = decoder.frame_at(number / proxy.fps)
      yield show()


def _folder_pictures(folder: Media) -> Iterator[np.ndarray]:
  """The pictures of a folder in the even size of the first."""
  size = None
  for path in media_lib.folder_pictures(folder):
    image = Image.fromarray(pictures.read_image(path))
    if size is None:
      size = _even_size(image.width, image.height, min(image.size))
    resized = image.resize(size, Image.Resampling.BICUBIC)
    yield np.asarray(resized)


def _even_size(width: int, height: int, side: int) -> tuple[int, int]:
  """Even (width, height) with a shorter side of about `side`, never enlarged."""
  scale = min(1.0, side / min(width, height))
  return _even(width * scale), _even(height * scale)


def _even(length: float) -> int:
  return max(2, round(length / 2) * 2)
