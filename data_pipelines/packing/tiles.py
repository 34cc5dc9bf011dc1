# SPDX-License-Identifier: Apache-2.0
"""Still images: how many square views each one becomes, and their pixels.

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

import numpy as np
from PIL import Image

from data_pipelines.media.open import GREY

MODES = ("squash", "pad", "anyres", "anyres_nopad")
MEAN = (123, 116, 103)  # Of ImageNet, truncated.
_STRIP = 1 << 20  # Pixels that are padded at a time.
NOPAD_SIDE = 6  # Tiles along a side at most under anyres_nopad.


@dataclasses.dataclass(frozen=True)
class Views:
  """One picture's views: `rows` x `columns` tiles after the overview; 0 x 0 is a single view.
  width and height are the picture's own; they decide what of the mosaic is padding."""

  mode: str
  width: int
  height: int
  rows: int = 0
  columns: int = 0

  @property
  def tiles(self) -> int:
    return self.rows * self.columns

  @property
  def count(self) -> int:
    """Image slots that the picture takes."""
    return 1 + self.tiles

  def unpad(self, mosaic: np.ndarray) -> np.ndarray:
    """Cuts the places that show padding off a mosaic [H W]: equal margins, rounded down."""
    if self.mode == "anyres_nopad":
      return mosaic
    high, wide = mosaic.shape
    if self.width * high > wide * self.height:  # Wider than the canvas: padded above and below.
      margin = (high - self.height * wide // self.width) // 2
      return mosaic[margin : high - margin]
    margin = (wide - self.width * high // self.height) // 2
    return mosaic[:, margin : wide - margin]


def views(width: int, height: int, images: Mapping, size: int, alone: bool) -> Views:
  """The views of a picture of width x height under config.data.images; `alone`: it is the only
  timeline of its sample. Raises ValueError for an unknown mode or no tiles."""
  mode, tiles = images["mode"], images["tiles"]
  if mode not in MODES:
    raise ValueError(
      f"config.data.images.mode={mode!r} is unknown. Set it to one of {', '.join(MODES)}."
    )
  if tiles < 1:
    raise ValueError(f"config.data.images.tiles={tiles} leaves no picture. Set it to 1 or more.")
  if mode == "anyres_nopad" and not alone:
    return Views("pad_mean", width, height)
  if not mode.startswith("anyres") or not alone:
    return Views("pad" if mode == "anyres" else mode, width, height)
  rows, columns = canvas(
    width, height, tiles, size, NOPAD_SIDE if mode == "anyres_nopad" else tiles
  )
  return Views(mode, width, height, rows, columns)


def canvas(width: int, height: int, tiles: int, size: int, side: int) -> tuple[int, int]:
  """Rows and columns of the canvas of at most `tiles` tiles, `side` along a side, that keeps most
  of the pixels; of equals the one that wastes least, then the narrower one (LLaVA's
  select_best_resolution)."""
  best = None
  for columns in range(1, min(tiles, side) + 1):
    for rows in range(1, min(tiles // columns, side) + 1):
      wide, high = columns * size, rows * size
      scale = min(wide / width, high / height)
      kept = min(int(width * scale) * int(height * scale), width * height)
      score = (kept, kept - wide * high)
      if best is None or score > best[0]:
        best = score, (rows, columns)
  return best[1]


def pixels(picture: np.ndarray, views: Views, size: int) -> np.ndarray:
  """A picture u8 [h w 3] as its views u8 [count size size 3], Pillow's bicubic."""
  image = Image.fromarray(picture)
  if views.mode.startswith("pad"):
    colour = MEAN if views.mode == "pad_mean" else (GREY,) * 3
    first = np.asarray(_padded(image, size, colour))[None]
  else:
    first = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))[None]
  if not views.tiles:
    return first
  wide, high = views.columns * size, views.rows * size
  if views.mode == "anyres_nopad":
    image = image.resize((wide, high), Image.Resampling.BICUBIC)
  scale = min(wide / image.width, high / image.height)
  fitted = [
    min(-int(-side * scale // 1), most) for side, most in zip(image.size, (wide, high), strict=True)
  ]
  image = _centred(image.resize(fitted, Image.Resampling.BICUBIC), (wide, high), (0, 0, 0))
  tiles = np.asarray(image).reshape(views.rows, size, views.columns, size, 3).swapaxes(1, 2)
  return np.concatenate([first, tiles.reshape(-1, size, size, 3)])


def _padded(image: Image.Image, size: int, colour: tuple[int, int, int]) -> Image.Image:
  """The image padded to a square, then resized to `size`: Pillow's own result, to the bit.

  Pillow resizes rows before columns, so a few rows are padded and narrowed at a time. The square
  itself, which a long and thin picture would make gigabytes large, is never there.
  """
  side = max(image.size)
  left = (side - image.width) // 2
  top = (side - image.height) // 2
  narrow = Image.new("RGB", (size, side), colour)
  rows = max(1, _STRIP // side)
  for begin in range(0, image.height, rows):
    end = min(image.height, begin + rows)
    strip = Image.new("RGB", (side, end - begin), colour)
    strip.paste(image.crop((0, begin, image.width, end)), (left, 0))
    narrow.paste(strip.resize((size, end - begin), Image.Resampling.BICUBIC), (0, top + begin))
  return narrow.resize((size, size), Image.Resampling.BICUBIC)


def _centred(image: Image.Image, size: tuple[int, int], colour: tuple[int, int, int]):
  """The image in the middle of a canvas; half pixels to the left and up."""
  if image.size == size:
    return image
  out = Image.new("RGB", size, colour)
  out.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
  return out
