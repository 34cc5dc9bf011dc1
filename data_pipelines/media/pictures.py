# SPDX-License-Identifier: Apache-2.0
"""Opens and resizes still pictures.

Any file gives either an RGB picture or a `MediaError`, within the memory and the work that
`picture_bounds` allows. No other module opens pictures.
"""

from collections.abc import Iterator, Mapping
import contextlib
import re
from typing import Any

import numpy as np
from PIL import (
  AvifImagePlugin,
  BmpImagePlugin,
  DdsImagePlugin,
  GifImagePlugin,
  Image,
  ImageFile,
  Jpeg2KImagePlugin,
  JpegImagePlugin,
  PcxImagePlugin,
  PngImagePlugin,
  PpmImagePlugin,
  QoiImagePlugin,
  SgiImagePlugin,
  TiffImagePlugin,
  WebPImagePlugin,
)

from data_pipelines.media.content import foreign_content
from data_pipelines.media.open import GREY, LIMITS, Limits, Media, MediaError, media_name
from data_pipelines.media.picture_bounds import check_fields, check_size, check_webp
from data_pipelines.media.picture_file import PictureFile

_ORIENTATION = 0x0112  # The EXIF tag, shared by TIFF.
_STRIP = 1 << 20  # Pixels converted to RGB at a time, to avoid a second full copy.


class _Tiff(TiffImagePlugin.TiffImageFile):
  """A TIFF that stays readable with broken EXIF data.

  Pillow rotates a TIFF by its orientation after decoding, and reads all its EXIF data there.
  """

  def load_end(self):
    try:
      super().load_end()
    except MediaError:
      raise
    except Exception:
      self._size = self.im.size


# File signature -> Pillow's class for the format. Pillow's other formats are excluded: some run
# programs, none is bounded. MPO files are read as JPEG, the format of their first picture.
_READERS = (
  (rb"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
  (rb"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
  (rb"RIFF....WEBP", WebPImagePlugin.WebPImageFile),
  (rb"BM", BmpImagePlugin.BmpImageFile),
  (rb"II[*+]\0|MM\0[*+]", _Tiff),
  (rb"GIF8[79]a", GifImagePlugin.GifImageFile),
  (rb"P[1-6f]\s", PpmImagePlugin.PpmImageFile),
  (rb"....ftyp(avif|avis|mif1|msf1)", AvifImagePlugin.AvifImageFile),
  (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", Jpeg2KImagePlugin.Jpeg2KImageFile),
  (rb"\x0a[\0\2\3\5]", PcxImagePlugin.PcxImageFile),
  (rb"\x01\xda", SgiImagePlugin.SgiImageFile),
  (rb"qoif", QoiImagePlugin.QoiImageFile),
  (rb"DDS ", DdsImagePlugin.DdsImageFile),
)


def read_image(
  media: Media, size: int | None = None, *, resize: str = "squash", limits: Limits = LIMITS
) -> np.ndarray:
  """A picture as uint8 [h w 3], or resized by `fit`.

  EXIF orientation is applied, and transparency is dropped. An animation gives its first frame.
  16-bit grey becomes 8-bit. A JPEG beyond limits.image_pixels is read at 1/2, 1/4 or 1/8 of its
  size.

  Raises MediaError for a file that is not a picture, is damaged, has values of other than 8 or 16
  bits, or exceeds `limits`.
  """
  with _opened(media, limits) as picture:
    with _pillow(media):
      picture.load()
    orientation = _orientation(picture)
    if size is not None and picture.mode == "RGB" and orientation == 1:
      return fit(picture, size, resize)
    with _pillow(media):
      rgb = _rgb(picture)
  rgb = np.ascontiguousarray(_turned(rgb, orientation))
  if size is None:
    return rgb
  return fit(Image.fromarray(rgb), size, resize)


def shown_size(media: Media, limits: Limits = LIMITS) -> tuple[int, int]:
  """(width, height) of `read_image`'s picture, from the file header.

  Raises MediaError.
  """
  with _opened(media, limits) as picture:
    width, height = picture.size
    orientation = _orientation(picture)
  if orientation >= 5:
    return height, width
  return width, height


def is_picture(media: Media) -> bool:
  """Whether a file begins like a picture that `read_image` reads.

  Raises MediaError for a file that cannot be opened.
  """
  with PictureFile(media, LIMITS) as file:
    return _reader(file.peek(16)) is not None


@contextlib.contextmanager
def _opened(media: Media, limits: Limits) -> Iterator[ImageFile.ImageFile]:
  """Opens a picture and checks its size and mode.

  Its pixels are not yet read.
  """
  with PictureFile(media, limits) as file:
    head = file.peek(16)
    reader = _reader(head)
    if reader is None:
      reason = foreign_content(media) if head else "is empty"
      raise MediaError(f"{media_name(media)}: {reason or 'is not a picture'}.")
    if reader is _Tiff:
      check_fields(media, file)
    if reader is WebPImagePlugin.WebPImageFile:
      check_webp(media, file, limits)
    with _pillow(media):
      picture = reader(file)
    with contextlib.closing(picture):
      _check_mode(media, picture)
      with _pillow(media):
        check_size(media, file, picture, limits)
      file.allow_pixels(picture)
      yield picture


def _reader(head: bytes) -> type[ImageFile.ImageFile] | None:
  """Pillow's class for a file that begins with `head`, or None."""
  for beginning, reader in _READERS:
    if re.match(beginning, head, re.DOTALL):
      return reader
  return None


@contextlib.contextmanager
def _pillow(media: Media) -> Iterator[None]:
  """Converts every error of Pillow to MediaError.

  Use it for blocks that call only Pillow. Pillow has no error class of its own. Its parsers raise
  TypeError, struct.error, zlib.error, AttributeError, OverflowError, RecursionError and more, and
  new ones with every release, so no list would be complete.
  """
  try:
    yield
  except MediaError:
    raise
  except Exception as error:
    lines = str(error).splitlines() or [type(error).__name__]
    raise MediaError(
      f"{media_name(media)}: is a damaged picture ({lines[0].rstrip('.')})."
    ) from error


def _check_mode(media: Media, picture: Image.Image):
  """Raises MediaError for values without a known range.

  These are floats and 32-bit integers.
  """
  numbers = ""
  if picture.mode == "F":
    numbers = "floating-point numbers"
  if picture.mode == "I" and picture.format not in ("PNG", "PPM"):  # 16 bits in these formats.
    numbers = "32-bit integers"
  if numbers:
    raise MediaError(
      f"{media_name(media)}: its pixels are {numbers} without a known range; store it with 8 or "
      "16 bits."
    )


def _orientation(picture: Image.Image) -> int:
  """The EXIF orientation, 1 to 8.

  1 for broken data, since the pixels are intact.
  """
  if picture.format == "TIFF":  # Pillow has already rotated it.
    return 1
  try:
    value = picture.getexif().get(_ORIENTATION, 1)
  except MediaError:
    raise
  except Exception:
    return 1
  return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned(rgb: np.ndarray, orientation: int) -> np.ndarray:
  """Rotates a picture [h w 3] by its EXIF orientation."""
  if orientation in (5, 6, 7, 8):
    rgb = rgb.swapaxes(0, 1)
  if orientation in (2, 3, 6, 7):
    rgb = rgb[:, ::-1]
  if orientation in (3, 4, 7, 8):
    rgb = rgb[::-1]
  return rgb


def _rgb(picture: Image.Image) -> np.ndarray:
  """A loaded picture of any mode as uint8 [h w 3]."""
  width, height = picture.size
  rgb = np.empty((height, width, 3), np.uint8)
  table = _shades(picture)
  rows = max(1, _STRIP // width)
  for top in range(0, height, rows):
    bottom = min(height, top + rows)
    strip = picture.crop((0, top, width, bottom))
    if table is None:
      rgb[top:bottom] = np.asarray(strip.convert("RGB"))
    else:
      rgb[top:bottom] = table[np.asarray(strip)][..., None]
  return rgb


def _shades(picture: Image.Image) -> np.ndarray | None:
  """The shades uint8 [65536] of a 16-bit grey picture's values.

  None for other pictures.
  """
  if picture.mode != "I" and not picture.mode.startswith("I;16"):
    return None
  tags: Mapping[int, Any] = {}
  if isinstance(picture, TiffImagePlugin.TiffImageFile):
    tags = picture.tag_v2
  bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]  # 12 in some.
  values = np.arange(1 << 16)
  highest = (1 << bits) - 1
  shades = np.minimum(values * 255 / highest, 255)
  table = np.round(shades).astype(np.uint8)
  white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1) == 0
  return 255 - table if white_is_zero else table


def fit(picture: Image.Image, size: int, resize: str = "squash") -> np.ndarray:
  """Resizes an RGB picture to uint8 [size size 3].

  The filter is Pillow's antialiased bicubic. "squash" and "pillow" change the aspect ratio; "pad"
  keeps it and fills the rest with GREY.
  """
  width, height = picture.size
  inner = inner_size(width, height, size, resize)
  resized = picture.resize(inner, Image.Resampling.BICUBIC)
  return framed(np.asarray(resized), size)


def inner_size(width: int, height: int, size: int, resize: str) -> tuple[int, int]:
  """(width, height) of a picture inside a square of `size`."""
  if resize in ("squash", "pillow"):
    return size, size
  if resize != "pad":
    raise ValueError(
      f'resize is {resize!r}, but pictures are resized by "squash", "pillow" or "pad" '
      "(config.data.resize)."
    )
  longest = max(width, height)
  inner_width = max(1, round(width * size / longest))
  inner_height = max(1, round(height * size / longest))
  return inner_width, inner_height


def framed(picture: np.ndarray, size: int) -> np.ndarray:
  """A picture [h w 3] centred in a grey [size size 3]."""
  h, w, _ = picture.shape
  if h == w == size:
    return picture
  square = np.full((size, size, 3), GREY, np.uint8)
  top = (size - h) // 2
  start = (size - w) // 2
  square[top : top + h, start : start + w] = picture
  return square
