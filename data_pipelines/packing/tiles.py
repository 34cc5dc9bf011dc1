# SPDX-License-Identifier: Apache-2.0
"""Square views of still images: their number and pixels.

  squash  one view; the aspect ratio is not kept
  pad     one view; padded with grey to a square first
  anyres  an overview (squashed) and the tiles of an enlarged, black-padded copy, if it is the
          sample's only picture; otherwise like pad (LLaVA-OneVision)
  anyres_nopad  an overview and the tiles of a copy that fills its canvas, aspect ratio not kept, if
          it is the sample's only picture; otherwise padded with the mean colour (VideoChat-Flash)

LLaVA tries canvases up to 6 x 6 tiles and shrinks the features of those with more than 9 by
interpolation. Here canvases of more than `tiles` tiles are not tried, so no feature is ever
interpolated: a deviation for very large or very long pictures only.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines.media.open import GREY

MODES = ("squash", "pad", "anyres", "anyres_nopad")
MEAN = (123, 116, 103)  # The mean of ImageNet, truncated.
NOPAD_SIDE = 6  # Maximum tiles along a side under anyres_nopad.
_BLACK = (0, 0, 0)
_BICUBIC = Image.Resampling.BICUBIC
_STRIP = 1 << 20  # Pixels padded at a time.

Colour = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Views:
  """The views of one picture: an overview and `rows` x `columns` tiles.

  0 x 0 is a single view. width and height are the picture's own; they determine the padding of the
  mosaic.
  """

  mode: str
  width: int
  height: int
  rows: int = 0
  columns: int = 0

  @property
  def tiles(self) -> int:
    """The number of tiles."""
    return self.rows * self.columns

  @property
  def count(self) -> int:
    """Image slots that the picture takes."""
    return 1 + self.tiles

  def unpad(self, mosaic: np.ndarray) -> np.ndarray:
    """Cuts the padding off a mosaic [H W]: equal margins, rounded down."""
    if self.mode == "anyres_nopad":
      return mosaic
    rows, columns = mosaic.shape
    if self.width * rows > columns * self.height:  # Wider than the canvas: padded above and below.
      picture_rows = self.height * columns // self.width
      margin = (rows - picture_rows) // 2
      return mosaic[margin : rows - margin]
    picture_columns = self.width * rows // self.height
    margin = (columns - picture_columns) // 2
    return mosaic[:, margin : columns - margin]


def views(
  width: int,
  height: int,
  images: Mapping[str, Any],
  size: int,
  alone: bool,
) -> Views:
  """The views of a picture of width x height under config.data.images.

  alone: the picture is the only timeline of its sample. Raises ValueError for an unknown mode or
  a tile count below 1.
  """
  mode = images["mode"]
  tiles = images["tiles"]
  if mode not in MODES:
    raise ValueError(
      f"config.data.images.mode={mode!r} is unknown. Set it to one of {', '.join(MODES)}."
    )
  if tiles < 1:
    raise ValueError(f"config.data.images.tiles={tiles} leaves no picture. Set it to 1 or more.")
  if mode not in ("anyres", "anyres_nopad"):
    return Views(mode, width, height)
  if not alone:
    return Views("pad" if mode == "anyres" else "pad_mean", width, height)
  side = NOPAD_SIDE if mode == "anyres_nopad" else tiles
  rows, columns = canvas(width, height, tiles, size, side)
  return Views(mode, width, height, rows, columns)


def canvas(
  width: int,
  height: int,
  tiles: int,
  size: int,
  side: int,
) -> tuple[int, int]:
  """(rows, columns) of the canvas that keeps most of a picture's pixels.

  A canvas has at most `tiles` tiles and at most `side` along a side. Ties go to the canvas with the
  least padding, then to the narrower canvas (LLaVA's select_best_resolution).
  """
  best = (1, 1)
  best_score = (-1, 0)  # Below that of any canvas.
  most_columns = min(tiles, side)
  for columns in range(1, most_columns + 1):
    most_rows = min(tiles // columns, side)
    for rows in range(1, most_rows + 1):
      canvas_width = columns * size
      canvas_height = rows * size
      scale = min(canvas_width / width, canvas_height / height)
      fitted = int(width * scale) * int(height * scale)
      kept = min(fitted, width * height)
      wasted = canvas_width * canvas_height - kept
      score = (kept, -wasted)
      if score > best_score:
        best = (rows, columns)
        best_score = score
  return best


def pixels(picture: np.ndarray, views: Views, size: int) -> np.ndarray:
  """Cuts a picture into its views with Pillow's bicubic resize.

  u8 [h w 3] -> u8 [count size size 3].
  """
  image = Image.fromarray(picture)
  overview = np.asarray(_overview(image, views.mode, size))
  if not views.tiles:
    return overview[None]
  mosaic = np.asarray(_mosaic(image, views, size))
  grid = mosaic.reshape(views.rows, size, views.columns, size, 3)
  tiles = grid.swapaxes(1, 2).reshape(-1, size, size, 3)
  return np.concatenate([overview[None], tiles])


def _overview(image: Image.Image, mode: str, size: int) -> Image.Image:
  """The whole picture as one square view."""
  if mode == "pad_mean":
    return _padded(image, size, MEAN)
  if mode.startswith("pad"):
    return _padded(image, size, (GREY, GREY, GREY))
  return image.resize((size, size), _BICUBIC)


def _mosaic(image: Image.Image, views: Views, size: int) -> Image.Image:
  """The picture resized to the canvas of its tiles."""
  width = views.columns * size
  height = views.rows * size
  if views.mode == "anyres_nopad":
    image = image.resize((width, height), _BICUBIC)
  scale = min(width / image.width, height / image.height)
  fitted_width = min(math.ceil(image.width * scale), width)
  fitted_height = min(math.ceil(image.height * scale), height)
  fitted = image.resize((fitted_width, fitted_height), _BICUBIC)
  return _centred(fitted, width, height, _BLACK)


def _padded(image: Image.Image, size: int, colour: Colour) -> Image.Image:
  """Pads an image to a square and resizes it, bit-identical to Pillow.

  Pillow resizes rows before columns, so a few rows are padded and narrowed at a time. The full
  square, gigabytes for a long and thin picture, is never allocated.
  """
  side = max(image.size)
  x = (side - image.width) // 2
  y = (side - image.height) // 2
  narrow = Image.new("RGB", (size, side), colour)
  rows = max(1, _STRIP // side)
  for begin in range(0, image.height, rows):
    end = min(image.height, begin + rows)
    strip = Image.new("RGB", (side, end - begin), colour)
    part = image.crop((0, begin, image.width, end))
    strip.paste(part, (x, 0))
    narrowed = strip.resize((size, end - begin), _BICUBIC)
    narrow.paste(narrowed, (0, y + begin))
  return narrow.resize((size, size), _BICUBIC)


def _centred(
  image: Image.Image,
  width: int,
  height: int,
  colour: Colour,
) -> Image.Image:
  """Centres the image on a canvas; half pixels round left and up."""
  if image.size == (width, height):
    return image
  x = (width - image.width) // 2
  y = (height - image.height) // 2
  centred = Image.new("RGB", (width, height), colour)
  centred.paste(image, (x, y))
  return centred
