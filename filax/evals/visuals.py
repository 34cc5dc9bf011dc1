# SPDX-License-Identifier: Apache-2.0
"""Encodes the media of questions, one set ahead of those that are asked about."""

from collections.abc import Sequence
import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from filax.evals.device_time import DeviceClock
from filax.evals.kit import ShownMedia
from filax.evals.reading import DecodedMedium, LongVideo, ReadMedium
from filax.infer import encode, encode_long, encoded_media
from filax.infer.encode import StartedVideo
from filax.infer.encoded_media import EncodedMedia
from filax.infer.loaded import LoadedModel
from filax.infer.video import DecodedVideo


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedSet:
  """The encoded media of a question."""

  media: list[EncodedMedia]
  table: jax.Array  # [M D]: their tokens in one table.
  shown: ShownMedia


class MediaEncoder:
  """Encodes media, and measures how long the device takes."""

  def __init__(self, loaded: LoadedModel, clock: DeviceClock):
    self._loaded = loaded
    self._clock = clock

  def start_encoding(self, media: Sequence[ReadMedium]) -> list[StartedVideo | EncodedMedia]:
    """Starts encoding without waiting for it.

    Raises the ValueError of an unreadable medium.
    """
    decoded: list[DecodedMedium] = []
    for medium in media:
      if isinstance(medium, ValueError):
        raise medium
      decoded.append(medium)
    return list(map(self._start_medium, decoded))

  def finish_encoding(self, started: Sequence[StartedVideo | EncodedMedia]) -> EncodedSet:
    """The visual tokens of started media."""
    media = []
    for medium in started:
      if isinstance(medium, StartedVideo):
        medium = encode.finish_video(self._loaded, medium)
      media.append(medium)
    return EncodedSet(media, self._joined_table(media), shown_media(media))

  def _start_medium(self, medium: DecodedMedium) -> StartedVideo | EncodedMedia:
    start = time.perf_counter()
    if isinstance(medium, LongVideo):
      _, encoded = encode_long.encode_timeline(self._loaded, medium.timeline)
      self._clock.watch_arrays("encode", start, encoded.table)
      return encoded
    if isinstance(medium, DecodedVideo):
      video = encode.start_video(self._loaded, medium)
      self._clock.watch_arrays("encode", start, video.visual.table)
      return video
    picture, views = medium
    encoded = encode.encode_picture(self._loaded, picture, views)
    self._clock.watch_arrays("encode", start, encoded.table)
    return encoded

  def _joined_table(self, media: Sequence[EncodedMedia]) -> jax.Array:
    """The visual table of a prompt; one empty row without media."""
    if media:
      return encoded_media.joined_table(media)
    llm = self._loaded.model.llm
    return jnp.zeros((1, llm.width), llm.dtype)


def shown_media(media: Sequence[EncodedMedia]) -> ShownMedia:
  """The duration and frame times of the first video among media."""
  for medium in media:
    if len(medium.groups):
      return ShownMedia(medium.text.duration, np.asarray(medium.text.times))
  return ShownMedia(0.0, np.zeros(0))
