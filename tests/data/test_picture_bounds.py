# SPDX-License-Identifier: Apache-2.0
"""Pictures that ask for too much memory or work are refused before they get it."""

import io
import pathlib
import struct
import subprocess
import sys
import zlib

import numpy as np
from PIL import Image
import pytest

from data_pipelines.media import picture_bounds, pictures
from data_pipelines.media.open import Limits, MediaError
from data_pipelines.media.probe import probe
from data_pipelines.packing import tiles


def saved(picture, kind, **options) -> bytes:
  file = io.BytesIO()
  picture.save(file, kind, **options)
  return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
  return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *between: bytes) -> bytes:
  """A PNG of 8 bits of grey; `between`: chunks before its pixels."""
  head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
  pixels = chunk(b"IDAT", zlib.compress(bytes((width + 1) * min(height, 100))))
  return b"\x89PNG\r\n\x1a\n" + head + b"".join(between) + pixels + chunk(b"IEND", b"")


def tiff(width: int, height: int, fields: dict, compression: int = 1, pixels: bytes = b"") -> bytes:
  """A grey TIFF; fields: tag -> values (u32)."""
  fields = {256: [width], 257: [height], 258: [8], 259: [compression], 262: [1], 277: [1]} | fields
  behind = 8 + 2 + 12 * len(fields) + 4
  head = b"II*\0" + struct.pack("<IH", 8, len(fields))
  tail = b""
  for tag, values in sorted(fields.items()):
    data = np.asarray(values, "<u4").tobytes()
    place = behind + len(tail)
    if len(data) > 4:
      tail += data
      data = struct.pack("<I", place)
    head += struct.pack("<HHI", tag, 4, len(values)) + data
  return head + bytes(4) + tail + pixels


def bmp(width: int, height: int, runs: bytes) -> bytes:
  """A BMP of runs (RLE8)."""
  head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024)
  return (
    head
    + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    + bytes(1024)
    + runs
  )


def gif(width: int, height: int, blocks: bytes = b"") -> bytes:
  screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
  frame = struct.pack("<HHHHB", 0, 0, width, height, 0)
  return screen + blocks + b"," + frame + b"\x02\x02\x44\x01\0;"


def webp(width: int, height: int) -> bytes:
  """A WebP with a huge canvas and a small frame."""
  small = saved(Image.new("RGB", (8, 8)), "WEBP")[12:]
  canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
  chunks = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + small
  return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def scans(count: int) -> bytes:
  """A progressive JPEG that repeats its last scan, of a few bytes for 16 million pixels."""
  data = saved(Image.new("L", (4000, 4000), 128), "JPEG", progressive=True)
  last = data[data.rindex(b"\xff\xda") : -2]
  return data[:-2] + last * count + data[-2:]


HUGE = 8 + 2 + 12 * 10 + 4  # Where a TIFF of ten fields has its pixels.
BOMBS = {
  "png of 10 GB": (lambda: png(100_000 // 2, 200_000 // 4), "50000 x 50000.*image_pixels=24000000"),
  "long png": (lambda: png(70_000, 100), "70000 x 100.*side of 65535"),
  "gif": (lambda: gif(65_535, 65_535), "65535 x 65535.*image_pixels"),
  "webp": (lambda: webp(16_383, 16_383), "16383 x 16383.*image_pixels"),
  "long webp": (lambda: webp(1 << 24, 100), "16777216 x 100.*image_pixels"),
  "bmp": (lambda: bmp(40_000, 40_000, b""), "40000 x 40000.*image_pixels"),
  "tiff": (lambda: tiff(60_000, 60_000, {273: [8]}), "60000 x 60000.*image_pixels"),
  "large tile": (
    lambda: tiff(16, 16, {322: [32_768], 323: [32_768], 324: [HUGE], 325: [9]}, 8),
    "16 x 16 pixels of TIFF takes",
  ),
  "many tiles": (
    lambda: tiff(4000, 4000, {322: [1], 323: [1], 324: range(70_000), 325: [1]}),
    "field 324 has 70000 values",
  ),
  "long field": (lambda: tiff(16, 16, {273: [8], 320: range(200_000)}), "field 320 has 200000"),
  "jpeg": (
    lambda: saved(Image.new("L", (16, 16)), "JPEG").replace(
      struct.pack(">HH", 16, 16), struct.pack(">HH", 65_000, 65_000)
    ),
    "65000 x 65000 pixels, at 1/8 of its size still more than config.data.image_pixels",
  ),
  "coefficients": (
    lambda: saved(Image.new("L", (16, 16)), "JPEG", progressive=True).replace(
      struct.pack(">HH", 16, 16), struct.pack(">HH", 15_000, 15_000)
    ),
    "15000 x 15000 pixels of JPEG takes 464 MB",
  ),
  "scans": (lambda: scans(2000), "more than 60 scans"),
  "text": (lambda: png(9, 9, chunk(b"tEXt", b"k\0" + bytes(80_000_000))), "more than 64 MB beside"),
  "texts": (lambda: png(9, 9, *[chunk(b"tEXt", b"k\0" + b"x" * 900_000)] * 80), "MB|memory"),
  "packed text": (
    lambda: png(9, 9, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000_000)))),
    "too large",
  ),
  "many chunks": (lambda: png(9, 9, chunk(b"prVt", b"") * 200_000), "too many small parts"),
  "many blocks": (lambda: gif(9, 9, b"!\xfe\x01x\0" * 200_000), "too many small parts"),
  "junk": (lambda: b"\xff\xd8\xff" + bytes(400_000), "too many small parts"),
  "many runs": (lambda: bmp(2000, 1000, b"\x01\x07" * 2_000_000), "too many small parts"),
  "python": (lambda: b"P3 2000 1000 255\n1 2 3", "2000 x 1000 pixels in a slow encoding"),
}


# These take a second before they are refused.
LONG = ("many chunks", "many blocks", "junk", "many runs")


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name, tmp_path):
  make, says = BOMBS[name]
  path = tmp_path / "bomb.png"
  path.write_bytes(make())
  with pytest.raises(MediaError, match=says) as caught:
    pictures.read_image(path)
  assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
  if name not in LONG:
    assert probe(str(path)).error


MEASURE = """
import sys
from data_pipelines.media import pictures
from filax import processes

def peak():
  return processes.peak_memory() >> 20

before = peak()
for path in sys.argv[1:]:
  try:
    pictures.read_image(path, 64 if path.endswith("1.jpg") else None, resize="pad")
  except pictures.MediaError as error:
    print(error)
  print(path.rsplit("/")[-1], peak() - before)
"""


@pytest.mark.slow
def test_memory_of_the_largest_pictures_and_of_bombs(tmp_path):
  """All copies of a picture together stay below 256 MB: measured in a process of its own."""
  flat = Image.new("RGB", (6000, 4000), (200, 30, 90))
  large = {
    "0.png": saved(flat.convert("RGBA"), "PNG"),
    "1.jpg": saved(flat, "JPEG"),
    "2.jpg": saved(flat, "JPEG", progressive=True, subsampling=0),
    "3.tif": saved(flat, "TIFF", compression="tiff_deflate", tiffinfo={274: 6}),
    "4.bmp": saved(flat, "BMP"),
    "5.gif": saved(flat.convert("L"), "GIF"),
    "6.webp": saved(flat.resize((4800, 3200)), "WEBP", method=0),
    "7.jpg": saved(Image.new("L", (12_000, 9000), 90), "JPEG"),
  }
  bombs = {f"{name}.png": make() for name, (make, _) in BOMBS.items() if name not in LONG}
  for name, data in (large | bombs).items():
    (tmp_path / name).write_bytes(data)
  paths = [str(tmp_path / name) for name in large | bombs]
  done = subprocess.run(
    [sys.executable, "-c", MEASURE, *paths],
    capture_output=True,
    text=True,
    timeout=300,
    cwd=pathlib.Path(pictures.__file__).parents[2],
  )
  assert done.returncode == 0, done.stderr
  *_, last = done.stdout.split()
  assert int(last) <= 256, done.stdout
  for name in large:
    assert f"{tmp_path}/{name}: " not in done.stdout  # They are read, not refused.


def test_a_large_jpeg_is_read_at_a_reduced_scale():
  wide = Image.linear_gradient("L").resize((512, 512))
  for progressive, pixels in (
    (False, 262_144),
    (True, 262_144),
    (False, 65_536),
    (True, 65_536),
    (True, 16_384),
    (True, 4096),
  ):
    data = saved(wide, "JPEG", progressive=progressive)
    read = pictures.read_image(data, limits=Limits(image_pixels=pixels))
    assert read.shape[0] * read.shape[1] == pixels
  with pytest.raises(MediaError, match=r"1/8 of its size .* config\.data\.image_pixels=4095"):
    pictures.read_image(data, limits=Limits(image_pixels=4095))
  limits = Limits(image_pixels=10_000)
  with pytest.raises(MediaError, match=r"512 x 512 .*config\.data\.image_pixels=10000; raise it"):
    pictures.read_image(saved(wide, "PNG"), limits=limits)
  assert pictures.read_image(saved(wide, "PNG"), limits=Limits(image_pixels=262_144)).any()


def test_a_webp_is_bounded_by_the_copies_of_its_decoder(monkeypatch):
  """Four of them live at the same time, so it may have fewer pixels than other pictures."""
  monkeypatch.setattr(picture_bounds, "_BYTES", 0.5)  # 12 MB.
  assert pictures.read_image(saved(Image.new("RGB", (800, 800)), "WEBP")).any() == 0
  with pytest.raises(MediaError, match=r"900 x 900 pixels of WEBP takes 13 MB.*12 MB.*=24000000"):
    pictures.read_image(saved(Image.new("RGB", (900, 900)), "WEBP"))


def test_a_jpeg_with_a_scan_for_each_colour_keeps_its_coefficients(monkeypatch):
  """Its colours come one after the other, so all of it is held, as of a progressive one."""
  data = saved(Image.new("RGB", (400, 300), (9, 80, 200)), "JPEG", subsampling=0)
  start = data.rindex(b"\xff\xda")
  apart = data[:start] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + data[start + 14 :]
  monkeypatch.setattr(picture_bounds, "_BYTES", 0.02)  # 480 kB; its coefficients take 730.
  assert pictures.read_image(data).shape == (150, 200, 3)
  with pytest.raises(MediaError, match="400 x 300 pixels of JPEG takes 1 MB"):
    pictures.read_image(apart)


def test_a_long_picture_is_padded_without_its_square():
  """Padding 60,000 x 2 pixels to a square would take 14 GB; the result is that of the square."""
  views = tiles.Views("pad", 60_000, 2)
  picture = np.full((2, 60_000, 3), 255, np.uint8)
  assert tiles.pixels(picture, views, 24).shape == (1, 24, 24, 3)
  drawn = np.random.default_rng(0).integers(0, 256, (3, 700, 3), np.uint8)
  for picture in (drawn, drawn.swapaxes(0, 1)):
    square = np.full((700, 700, 3), 127, np.uint8)
    top, left = (700 - picture.shape[0]) // 2, (700 - picture.shape[1]) // 2
    square[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    expected = Image.fromarray(square).resize((24, 24), Image.Resampling.BICUBIC)
    views = tiles.Views("pad", *picture.shape[1::-1])
    np.testing.assert_array_equal(tiles.pixels(picture, views, 24)[0], np.asarray(expected))
