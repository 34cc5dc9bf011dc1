# SPDX-License-Identifier: Apache-2.0
"""Small pictures of the media of sample questions, as data URLs."""

import base64
from collections.abc import Iterable
import io
import time
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.media.frames import read_frames
from data_pipelines.media.open import Limits, MediaError
from data_pipelines.media.probe import probe

MOST = 12  # The most thumbnails of a page.
SIDE = 256  # Pixels of the longer side.
QUALITY = 72  # Quality of the JPEG.
MOST_SECONDS = 60.0  # For all media of a page.
LIMITS = Limits(open_seconds=5.0, decode_seconds=10.0)


class Thumbnails(NamedTuple):
  """The pictures of some media."""

  urls: dict[str, str]  # Medium -> JPEG as a data URL.
  unreadable: list[str]  # Media that are gone or damaged, and those beyond the time.


def make_thumbnails(media: Iterable[str]) -> Thumbnails:
  """The middle frames of the first MOST media that can be read."""
  urls: dict[str, str] = {}
  unreadable = []
  deadline = time.monotonic() + MOST_SECONDS
  for medium in dict.fromkeys(media):
    if len(urls) == MOST:
      break
    if time.monotonic() > deadline:
      unreadable.append(medium)
      continue
    try:
      urls[medium] = jpeg_url(middle_frame(medium))
    except MediaError:
      unreadable.append(medium)
  return Thumbnails(urls, unreadable)


def middle_frame(medium: str) -> Image.Image:
  """The frame in the middle of a medium.

  It is at most SIDE pixels wide and high. Raises MediaError.
  """
  facts = probe(medium, LIMITS)
  if facts.error:
    raise MediaError(facts.error)
  frames, _ = read_frames(medium, [facts.duration / 2], SIDE, limits=LIMITS)
  longer = max(facts.width, facts.height, 1)
  width = max(1, round(SIDE * facts.width / longer))
  height = max(1, round(SIDE * facts.height / longer))
  picture = Image.fromarray(np.ascontiguousarray(frames[0]))
  return picture.resize((width, height), Image.Resampling.BICUBIC)


def jpeg_url(picture: Image.Image) -> str:
  """A picture as the data URL of a JPEG."""
  out = io.BytesIO()
  picture.save(out, "JPEG", quality=QUALITY)
  return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
