# SPDX-License-Identifier: Apache-2.0
"""Bounds on one picture's memory and its decoder's work.

Pillow decodes whole pictures and bounds neither, so both are bounded here, before a pixel is
decoded. No bound depends on time, so every machine accepts the same pictures. Bounds that follow
from Limits.image_pixels grow with it, but never fall below those of its default: 24 million pixels
may take 252 MB, for all simultaneous copies, and a second or two.
"""

import struct

from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from data_pipelines.media.open import LIMITS, Limits, Media, MediaError, check_pixels, media_name
from data_pipelines.media.picture_file import PictureFile

SIDE = 65_535  # Pixels; the maximum of JPEG, GIF and WebP, small enough to pad to a square.

_BYTES = 10.5  # Per pixel of `_room`, for all simultaneous copies.
_READY = 8  # Bytes per pixel after decoding: Pillow's 4, and an array of 3 or a rotated copy of 4.
_PILLOW = 4  # Bytes per pixel of Pillow's own copy.
# Bytes per pixel of a decoder's buffers, besides Pillow's copy. WebP: two canvases and the frame;
# AVIF: planes of 16 bits and the frame; JPEG 2000: 32 bits per component, and coefficients.
_DECODER = {"WEBP": 12, "AVIF": 16, "JPEG2000": 32}
_READ_AHEAD = ("WEBP", "AVIF")  # Formats read into memory before decoding.
# Relative decoding time per pixel of slow formats; most of their decoders are Python code.
_SLOW = {
  "ppm": 64,
  "ppm_plain": 64,
  "qoi": 24,
  "dds_rgb": 24,
  "jpeg2k": 6,
  "SGI16": 4,
  "bmp_rle": 4,
}
_PASSES = 40  # Passes over the pixels of `_room`; a progressive JPEG takes one per scan.
_PARTS = 65_536  # Strips or tiles of a TIFF.
_VALUES = 3 * 65_536  # The most values of a field of a TIFF, such as a colour map.


def check_size(
  media: Media, file: PictureFile, picture: ImageFile.ImageFile, limits: Limits
) -> None:
  """Raises MediaError if decoding a picture would take more than `limits` allow.

  picture: opened, not yet loaded. A JPEG that is too large is set to a reduced scale. Raises
  MediaError for other pictures beyond the limits.
  """
  width, height = picture.size
  if max(width, height) > SIDE:
    raise MediaError(
      f"{media_name(media)}: has {width} x {height} pixels, and pictures are read up to a "
      f"side of {SIDE}."
    )
  if isinstance(picture, JpegImagePlugin.JpegImageFile):
    _reduce(media, file, picture, limits)
    return
  check_pixels(media, width, height, limits)
  tile = picture.tile[0] if picture.tile else None
  slow = _SLOW.get(tile[0], 1) if tile else 1
  if width * height * slow > _room(limits):
    raise MediaError(
      f"{media_name(media)}: has {width} x {height} pixels in a slow encoding, of which "
      f"config.data.image_pixels={limits.image_pixels} allows {_room(limits) // slow}; raise it, "
      "or store the picture as PNG."
    )
  pixels = width * height
  held = pixels * (_PILLOW + _DECODER.get(picture.format or "", 0))
  if picture.format in _READ_AHEAD:
    held += file.length
  if isinstance(picture, TiffImagePlugin.TiffImageFile):
    held += _largest_part(picture)
    if tile and tile[0] == "libtiff":
      held += file.length
  _check_bytes(media, picture, max(held, _READY * pixels), limits)


def check_webp(media: Media, file: PictureFile, limits: Limits) -> None:
  """Raises MediaError for a WebP that `check_size` would refuse.

  Checked before opening, which already allocates the memory.
  """
  head = file.peek(30)
  if len(head) < 30:
    return
  kind = head[12:16]
  if kind == b"VP8X":
    width = 1 + int.from_bytes(head[24:27], "little")
    height = 1 + int.from_bytes(head[27:30], "little")
  elif kind == b"VP8L":
    bits = int.from_bytes(head[21:25], "little")
    width = 1 + (bits & 0x3FFF)
    height = 1 + (bits >> 14 & 0x3FFF)
  else:
    width = int.from_bytes(head[26:28], "little") & 0x3FFF
    height = int.from_bytes(head[28:30], "little") & 0x3FFF
  check_pixels(media, width, height, limits)


def check_fields(media: Media, file: PictureFile) -> None:
  """Raises MediaError for a TIFF whose first directory has overlong fields.

  Pillow creates a Python object for every number of a field before it checks any.
  """
  head = file.peek(16)
  order = "<" if head.startswith(b"II") else ">"
  big = head[2:4] in (b"+\0", b"\0+")
  if len(head) < 16:
    return
  if big:
    (start,) = struct.unpack(order + "Q", head[8:16])
    count_form = struct.Struct(order + "Q")
    entry_form = struct.Struct(order + "HHQQ")
  else:
    (start,) = struct.unpack(order + "I", head[4:8])
    count_form = struct.Struct(order + "H")
    entry_form = struct.Struct(order + "HHII")
  if start > file.length:
    return
  counter = file.peek(count_form.size, start)
  if len(counter) < count_form.size:
    return
  (entries,) = count_form.unpack(counter)
  table = file.peek(min(entries, _PARTS) * entry_form.size, start + count_form.size)
  rest = len(table) % entry_form.size
  for tag, kind, values, _ in entry_form.iter_unpack(table[: len(table) - rest]):
    is_parts = tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS)
    limit = _PARTS if is_parts else _VALUES
    is_text = kind in (1, 2, 6, 7)  # These stay bytes.
    if values > limit and not is_text:
      raise MediaError(
        f"{media_name(media)}: field {tag} has {values} values, but is read up to {limit}."
      )


def _reduce(
  media: Media, file: PictureFile, picture: JpegImagePlugin.JpegImageFile, limits: Limits
) -> None:
  """Sets a JPEG to the largest scale (1 to 1/8) that fits."""
  width, height = picture.size
  if _scaled_pixels(picture, 8) > limits.image_pixels:
    raise MediaError(
      f"{media_name(media)}: has {width} x {height} pixels, at 1/8 of its size still more than "
      f"config.data.image_pixels={limits.image_pixels}; raise it if the file is sound."
    )
  coefficients = 0 if _has_one_scan(file, picture) else _coefficient_bytes(picture)
  for scale in (1, 2, 4, 8):
    pixels = _scaled_pixels(picture, scale)
    held = max(_READY * pixels, _PILLOW * pixels + coefficients)
    if pixels <= limits.image_pixels and held <= _BYTES * _room(limits):
      break
  else:
    _check_bytes(media, picture, held, limits)
  if scale > 1:
    picture.draft(None, (width // scale, height // scale))
  if picture.info.get("progressive"):
    scans = _PASSES * _room(limits) // (width * height)
    file.limit_scans(max(1, scans))


def _scaled_pixels(picture: Image.Image, scale: int) -> int:
  """Pixels of a picture at 1 / `scale` of its size."""
  width, height = picture.size
  columns = -(-width // scale)
  rows = -(-height // scale)
  return columns * rows


def _check_bytes(media: Media, picture: Image.Image, held: float, limits: Limits) -> None:
  allowed = _BYTES * _room(limits)
  if held > allowed:
    width, height = picture.size
    raise MediaError(
      f"{media_name(media)}: decoding {width} x {height} pixels of {picture.format} takes "
      f"{held / 1e6:.0f} MB, more than the {allowed / 1e6:.0f} MB that config.data.image_pixels="
      f"{limits.image_pixels} allows; raise it if the file is sound."
    )


def _room(limits: Limits) -> int:
  """The pixel count that memory and time are bounded by."""
  return max(limits.image_pixels, LIMITS.image_pixels)


def _has_one_scan(file: PictureFile, picture: JpegImagePlugin.JpegImageFile) -> bool:
  """Whether a JPEG is decoded row by row.

  Otherwise all its coefficients stay in memory until the last scan. file: positioned after the
  header of the first scan, where opening stops.
  """
  if picture.info.get("progressive"):
    return False
  components = picture.layers
  header = bytes((0xFF, 0xDA, 0, 6 + 2 * components, components))
  place = file.tell() - 8 - 2 * components
  return file.peek(len(header), place) == header


def _coefficient_bytes(picture: JpegImagePlugin.JpegImageFile) -> int:
  """Bytes of all coefficients of a JPEG.

  16 bits each, in complete blocks of 8 x 8.
  """
  width, height = picture.size
  widest = max(layer[1] for layer in picture.layer)
  highest = max(layer[2] for layer in picture.layer)
  total = 0
  for _, across, down, _ in picture.layer:
    columns = -(-width * across // (8 * widest))
    rows = -(-height * down // (8 * highest))
    total += columns * rows * 64 * 2
  return total


def _largest_part(picture: TiffImagePlugin.TiffImageFile) -> int:
  """Bytes of a decoded strip or tile of a TIFF.

  It may be larger than the picture.
  """
  tags = picture.tag_v2
  width, height = picture.size
  part_width = width
  part_height = height
  if TiffImagePlugin.TILEWIDTH in tags:
    part_width = tags[TiffImagePlugin.TILEWIDTH]
    part_height = tags.get(TiffImagePlugin.TILELENGTH, height)
  elif TiffImagePlugin.ROWSPERSTRIP in tags:
    part_height = min(height, tags[TiffImagePlugin.ROWSPERSTRIP])
  bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
  channels = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
  pixel_bytes = max(4, -(-max(bits) * channels // 8))
  return part_width * part_height * pixel_bytes
