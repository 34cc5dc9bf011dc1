# SPDX-License-Identifier: Apache-2.0
"""Long videos as files, for looking at and for other trainers.

The bytes differ between builds of the encoder.
"""

from collections.abc import Iterator, Sequence
import itertools
import pathlib

import av
import numpy as np
from PIL import Image

from data_pipelines.manifest import llava
from data_pipelines.media.container import open_video
from data_pipelines.media.decoder import VideoDecoder, picture, shown_size
from data_pipelines.media.encoder import write_h264
from data_pipelines.media.open import reported
from data_pipelines.sample import Sample, Scene
from filax import files

FPS = 2.0
SIDE = 384  # The shorter side of the first scene, at most, in pixels.
_X264 = {"crf": "20", "g": "4", "bf": "0"}


def render(
  out: pathlib.Path, manifests: Sequence[str], root: str, count: int
) -> list[pathlib.Path]:
  """Writes the first `count` long videos as rendered/<id>.mp4.

  Files that are there already stay. Raises MediaError for an unreadable medium.
  """
  paths = []
  samples = _samples(out, manifests, root)
  for sample in itertools.islice(samples, count):
    path = out / "rendered" / f"{sample.id}.mp4"
    if not path.exists():
      with files.write_atomically(path) as file:
        write_h264(file, _pictures(sample.media[0]), FPS, _X264)
    paths.append(path)
  return paths


def _samples(out: pathlib.Path, manifests: Sequence[str], root: str) -> Iterator[Sample]:
  for name in manifests:
    yield from llava.read_manifest(out / name, root)


def _pictures(timeline: Sequence[Scene]) -> Iterator[np.ndarray]:
  """The frames on screen every 1 / FPS seconds, in one size."""
  size: tuple[int, int] | None = None
  number = 0
  for scene in timeline:
    assert scene.t1 is not None  # Long videos have both ends.
    end = scene.at + scene.t1 - scene.t0
    with open_video(scene.media) as video, reported(scene.media):
      decoder = VideoDecoder(video, _rgb)
      while number / FPS < end:
        _, show = decoder.frame_at(scene.t0 + number / FPS - scene.at)
        frame = show()
        if size is None:
          size = _even_size(frame.shape[1], frame.shape[0])
        yield _letterboxed(frame, size)
        number += 1


def _rgb(frame: av.VideoFrame) -> np.ndarray:
  width, height = shown_size(frame)
  return picture(frame, width, height)


def _even_size(width: int, height: int) -> tuple[int, int]:
  scale = min(1.0, SIDE / min(width, height))
  return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _letterboxed(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """A picture fitted into a size, on black."""
  width, height = size
  scale = min(width / frame.shape[1], height / frame.shape[0])
  fitted = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
  image = Image.fromarray(frame).resize(fitted, Image.Resampling.BICUBIC)
  canvas = Image.new("RGB", size)
  canvas.paste(image, ((width - fitted[0]) // 2, (height - fitted[1]) // 2))
  return np.asarray(canvas)
