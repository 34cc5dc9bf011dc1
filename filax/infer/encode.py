# SPDX-License-Identifier: Apache-2.0
"""Encodes videos and pictures once, for any number of prompts."""

from concurrent.futures import ThreadPoolExecutor
import dataclasses
import os
from typing import cast

import jax
import numpy as np

from data_pipelines.packing import tiles, visual_order
from data_pipelines.packing.tiles import Views
from data_pipelines.text import templates
from filax.infer.compiled import CountedProgram
from filax.infer.encoded_media import EncodedMedia
from filax.infer.loaded import LoadedModel
from filax.infer.video import DecodedVideo, frame_unit, timeline_of
from filax.models.video_lm import VideoLM, Visual
from filax.parallel.rules import constrain


@dataclasses.dataclass(frozen=True, eq=False)
class StartedVideo:
  """A video whose encoding runs on the device."""

  video: DecodedVideo
  visual: Visual
  places: np.ndarray  # int [T]: positions of the encoded frames in the video.


def read_video_and_compile(loaded: LoadedModel, media: str | os.PathLike) -> DecodedVideo:
  """`loaded.read_video`, while the encoder's program for its frames is compiled."""
  timeline = timeline_of(media)
  extent, count = loaded.extent_and_count(timeline)
  with ThreadPoolExecutor(1) as pool:
    reading = pool.submit(loaded.read_extent, timeline, extent, count)
    size = loaded.model.encoder.size
    frames = jax.ShapeDtypeStruct((1, count, size, size, 3), np.uint8)
    mask = jax.ShapeDtypeStruct((1, count), bool)
    with loaded.on_mesh():
      EMBED.compile_for(
        _frames_label(count), loaded.model, loaded.params, frames, mask, no_pictures(size)
      )
    return reading.result()


def _frames_label(count: int) -> str:
  return f"1 x {count} frames"


def encode_video(loaded: LoadedModel, video: DecodedVideo) -> EncodedMedia:
  """Encodes a video with the model's selector.

  Raises ValueError if the pictures do not have the encoder's size.
  """
  return finish_video(loaded, start_video(loaded, video))


def start_video(loaded: LoadedModel, video: DecodedVideo) -> StartedVideo:
  """Starts the encoding of a video without waiting for it.

  Raises ValueError if the pictures do not have the encoder's size.
  """
  model = loaded.model
  check_video(model, video)
  frames, mask, places = candidates(model, video)
  with loaded.on_mesh():
    visual = EMBED(
      _frames_label(len(frames)),
      model,
      loaded.params,
      frames[None],
      mask[None],
      no_pictures(model.encoder.size),
    )
  return StartedVideo(video, visual, places)


def finish_video(loaded: LoadedModel, started: StartedVideo) -> EncodedMedia:
  """The visual tokens of a started video; waits for its groups."""
  model = loaded.model
  video = started.video
  visual = started.visual
  index, real = jax.device_get((visual.index, visual.mask))  # Indexing there compiles a program.
  groups = started.places[index[0][real[0]]]
  times = video.times[groups]
  pattern = visual_order.video_order(len(groups), model.layout())
  group_times = times[:, representative(model)]
  text = templates.VisualText(len(pattern), video.duration, times.reshape(-1), group_times)
  return EncodedMedia(visual.table[0], pattern, text, groups)


def encode_picture(loaded: LoadedModel, picture: np.ndarray, views: Views) -> EncodedMedia:
  """Encodes a still picture [h w 3] with its tiles (tiles.views)."""
  layout = loaded.model.layout()
  pixels = tiles.pixels(picture, views, layout.size)
  no_mask = np.zeros((1, 0), bool)
  with loaded.on_mesh():
    visual = EMBED(
      f"1 x {len(pixels)} pictures",
      loaded.model,
      loaded.params,
      no_pictures(layout.size),
      no_mask,
      pixels[None],
    )
  pattern = visual_order.image(views, layout)
  no_groups = np.zeros((0, 1), int)
  text = templates.VisualText(len(pattern))
  return EncodedMedia(visual.table[0], pattern, text, no_groups)


def no_pictures(size: int) -> np.ndarray:
  """Empty frames or images: uint8 [1 0 h w 3]."""
  return np.zeros((1, 0, size, size, 3), np.uint8)


def candidates(model: VideoLM, video: DecodedVideo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The frames that the selector chooses from.

  Returns frames [T h w 3], mask [T], and their positions [T] in the video.

  A choosing selector sees every frame once: the repeated frames of a short video become padding,
  and with too few frames the selector distributes the available ones. A selector that groups
  neighbours takes the frames unchanged.
  """
  places = np.arange(len(video.frames))
  if not model.selector.needs_single:
    return video.frames, np.ones(len(places), bool), places
  distinct = video.distinct()
  places = np.concatenate([places[distinct], places[~distinct]])
  mask = np.sort(distinct)[::-1]
  return video.frames[places], mask, places


def representative(model: VideoLM) -> int:
  """The position of the representative frame within a group.

  The middle frame, unless the selector defines another.
  """
  return model.selector.representative


def check_video(model: VideoLM, video: DecodedVideo) -> None:
  """Checks picture size and frame count against the model.

  Raises ValueError if they do not match.
  """
  count, height, width, _ = video.frames.shape
  size = model.encoder.size
  if (height, width) != (size, size):
    raise ValueError(
      f"The video was read as pictures of {width} x {height} pixels, but the encoder reads "
      f"{size} x {size}. Call read_video with size={size}."
    )
  unit = frame_unit(model)
  if not count or count % unit:
    raise ValueError(
      f"The video was read as {count} frames, but the model takes whole groups of {unit}. Call "
      f"read_video with frames={max(1, round(count / unit)) * unit}."
    )


def embed(model: VideoLM, params, frames, mask, images):
  """VideoLM.embed as a function; every process can read the groups."""
  result = model.apply({"params": params}, frames, mask, images, method="embed")
  visual = cast(Visual, result)  # apply returns a pair only if some collection is mutable.
  index = constrain(visual.index, "- - -")
  return dataclasses.replace(visual, index=index, mask=constrain(visual.mask, "- -"))


EMBED = CountedProgram("encoder", embed, static_argnums=0)
