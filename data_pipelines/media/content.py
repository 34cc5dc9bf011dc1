# SPDX-License-Identifier: Apache-2.0
"""What a file is, by its first bytes."""

import re
from typing import BinaryIO

from data_pipelines.media import remote
from data_pipelines.media.open import (
  Media,
  MediaError,
  file_path,
  is_packed,
  media_name,
  open_content,
  reported,
)

_PNG = b"\x89PNG\r\n\x1a\n"
_HEIC = rb"....ftyphei[cmsx]"
_JPEG_XL = rb"\xff\x0a|\0\0\0\x0cJXL "
# jpeg png bmp tiff webp avif heic jpeg-xl. Animated AVIF begins with "avis".
_PICTURE = re.compile(
  rb"\xff\xd8\xff|\x89PNG|BM|II\*\0|MM\0\*|RIFF....WEBP|....ftyp(avif|mif1)|"
  + _HEIC
  + b"|"
  + _JPEG_XL,
  re.DOTALL,
)
_CHUNKS = 1000  # Of a PNG, among which an animation is looked for.
_BOXES = 1000  # Of an mp4, among which an index is looked for.
_BOX_KINDS = (b"ftyp", b"styp", b"mdat", b"moof")  # With which mp4 files begin.
_QUOTED = 40  # Characters of a text that its error shows.
# First bytes -> what is said of a file that is neither a picture nor a video that can be read.
_FOREIGN = (
  (_HEIC, "is a HEIC picture, which is not read; save it as JPEG or PNG"),
  (_JPEG_XL, "is a JPEG XL picture, which is not read; save it as JPEG or PNG"),
  (rb"version https://git-lfs", "is a pointer of Git LFS to the file; run git lfs pull"),
  (
    rb"#EXTM3U",
    "is a playlist, whose parts are not read; join them, as by ffmpeg -i LIST -c copy a.mp4",
  ),
  (rb"PK\x03\x04", "is a ZIP archive"),
  (rb"\x1f\x8b", "is a gzip archive"),
  (rb"%PDF", "is a PDF document"),
  (rb"\0{64}", "begins with zeros, as a download that was not completed"),
)


def content_kind(media: Media) -> str:
  """folder | image | video, by the first bytes of a file.

  An animated PNG is a video. Raises MediaError for a missing or empty medium, and for pipes,
  sockets and devices.
  """
  with reported(media):
    if not is_packed(media) and remote.is_folder(file_path(media)):
      return "folder"
    with open_content(media) as content:
      head = content.read(16)
      is_animation = head.startswith(_PNG) and _is_animated_png(content)
  if not head:
    raise MediaError(f"{media_name(media)}: is empty.")
  if is_animation or not _PICTURE.match(head):
    return "video"
  return "image"


def check_plays(media: Media) -> None:
  """Raises MediaError for an animated WebP, which only gives one picture."""
  with reported(media), open_content(media) as content:
    head = content.read(21)
  if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20:] and head[20] & 2:
    raise MediaError(
      f"{media_name(media)}: is an animated WebP, which is not read as a video; save it as an "
      "animated PNG, a GIF or a video file."
    )


def foreign_content(media: Media) -> str:
  """Why a file cannot be read, such as "is a ZIP archive".

  It is "" if the first bytes do not tell. Only for files that could not be opened: a video may also
  begin with text. Raises MediaError.
  """
  with reported(media), open_content(media) as content:
    head = content.read(64)
    has_index = _has_index(content)
  for beginning, reason in _FOREIGN:
    if re.match(beginning, head, re.DOTALL):
      return reason
  if head[4:8] in _BOX_KINDS and not has_index:
    return "has no index (moov): its recording or download was cut off, or it is a segment"
  text = head.decode("utf-8-sig", "ignore")
  is_text = all(letter.isprintable() or letter.isspace() for letter in text)
  if is_text and len(text.encode()) > 0.9 * len(head):
    line = " ".join(text.split())
    return f"is not a picture or a video, but text: it begins with {line[:_QUOTED]!r}"
  return ""


def _has_index(file: BinaryIO) -> bool:
  """Whether an mp4 has a box `moov`."""
  place = 0
  for _ in range(_BOXES):
    file.seek(place)
    head = file.read(16)
    size = int.from_bytes(head[:4])
    if size == 1:
      size = int.from_bytes(head[8:])
    if head[4:8] == b"moov":
      return True
    if len(head) < 8 or size < 8:
      return False
    place += size
  return False


def _is_animated_png(file: BinaryIO) -> bool:
  """Whether a PNG has several frames.

  Their number stands in a chunk acTL before the pixels.
  """
  place = len(_PNG)
  for _ in range(_CHUNKS):
    file.seek(place)
    chunk = file.read(12)  # Length, kind, and the first bytes of the content.
    if len(chunk) < 12 or chunk[4:8] == b"IDAT":
      return False
    if chunk[4:8] == b"acTL":
      return int.from_bytes(chunk[8:]) > 1
    place += 12 + int.from_bytes(chunk[:4])
  return False
