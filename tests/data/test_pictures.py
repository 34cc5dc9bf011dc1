# SPDX-License-Identifier: Apache-2.0
"""Pictures: what every kind of file gives, and what is said of files that give none."""

import io
import pathlib
import re
import struct

import numpy as np
from PIL import Image, ImageOps
import pytest

import data_pipelines
from data_pipelines.media import frames, pictures
from data_pipelines.media.cache import FrameCache
from data_pipelines.media.index import MediaIndex
from data_pipelines.media.open import Limits, MediaError
from data_pipelines.media.probe import probe
from data_pipelines.sample import Scene
from filax.testing import clips

RAMP = np.arange(0, 65536, 13, dtype=np.uint16)[: 48 * 64].reshape(48, 64)
SHADES = np.round(RAMP / 257).astype(np.uint8)


def saved(picture, kind, **options) -> bytes:
  file = io.BytesIO()
  picture.save(file, kind, **options)
  return file.getvalue()


def tiff(values: np.ndarray, bits: int, number: int = 1, order: str = "<", white: int = 1) -> bytes:
  """A grey TIFF of one strip; number: 1 unsigned, 2 signed, 3 float; white: 0 if 0 is white."""
  height, width = values.shape
  fields = {
    256: width,
    257: height,
    258: bits,
    259: 1,
    262: white,
    273: 0,
    277: 1,
    278: height,
    279: values.nbytes,
    339: number,
  }
  fields[273] = 8 + 2 + 12 * len(fields) + 4
  data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(fields))
  for tag, value in fields.items():
    data += struct.pack(order + "HHII", tag, 4, 1, value)
  return data + bytes(4) + values.astype(values.dtype.newbyteorder(order)).tobytes()


SIXTEEN = {
  "png": lambda: saved(Image.fromarray(RAMP), "PNG"),
  "tif": lambda: tiff(RAMP, 16),
  "big-endian tif": lambda: tiff(RAMP, 16, order=">"),
  "compressed tif": lambda: saved(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"),
  "pgm": lambda: b"P5 64 48 65535\n" + RAMP.astype(">u2").tobytes(),
  "jp2": lambda: saved(Image.fromarray(RAMP), "JPEG2000"),
}


@pytest.mark.parametrize("kind", SIXTEEN)
def test_16_bits_of_grey_become_8(kind, tmp_path):
  data = SIXTEEN[kind]()
  picture = pictures.read_image(data)
  assert picture.dtype == np.uint8
  np.testing.assert_array_equal(picture, np.repeat(SHADES[..., None], 3, axis=2))
  (tmp_path / "0.png").write_bytes(data)  # Folders of depth maps, say.
  assert pictures.read_image(tmp_path / "0.png", 16).mean() == pytest.approx(SHADES.mean(), abs=1)


def test_every_value_of_16_bits_is_rounded():
  values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
  shades = pictures.read_image(saved(Image.fromarray(values), "PNG"))[..., 0]
  np.testing.assert_array_equal(shades, np.round(values / 257))


def test_16_bits_whose_zero_is_white():
  np.testing.assert_array_equal(pictures.read_image(tiff(RAMP, 16, white=0))[..., 0], 255 - SHADES)


@pytest.mark.parametrize(
  ("data", "says"),
  [
    (lambda: tiff(np.ones((4, 4), np.float32), 32, 3), "floating-point numbers"),
    (lambda: tiff(np.ones((4, 4), np.float32), 32, 3, order=">"), "floating-point numbers"),
    (lambda: b"Pf 2 2 -1.0\n" + bytes(16), "floating-point numbers"),
    (lambda: tiff(np.ones((4, 4), np.uint32), 32), "32-bit integers"),
    (lambda: tiff(np.ones((4, 4), np.int32), 32, 2), "32-bit integers"),
    (lambda: tiff(np.ones((4, 4), np.int16), 16, 2), "32-bit integers"),
  ],
)
def test_numbers_without_a_range_are_refused(data, says, tmp_path):
  path = tmp_path / "depth.tif"
  path.write_bytes(data())
  with pytest.raises(MediaError, match=f"{says} without a known range"):
    pictures.read_image(path)


MODES = {
  "PNG": "1 L LA P RGB RGBA",
  "JPEG": "L RGB CMYK YCbCr",
  "WEBP": "RGB RGBA",
  "BMP": "1 L P RGB",
  "TIFF": "1 L P RGB RGBA CMYK",
  "GIF": "L P RGB RGBA",
  "PPM": "1 L RGB",
  "AVIF": "RGB RGBA",
  "JPEG2000": "L RGB RGBA",
  "PCX": "L P RGB",
  "SGI": "L RGB",
  "QOI": "RGB RGBA",
  "DDS": "RGB RGBA",
}
CASES = [(kind, mode) for kind, modes in MODES.items() for mode in modes.split()]


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_pictures_of_8_bits_are_what_pillow_shows(kind, mode):
  drawn = Image.fromarray(clips.draw_number(77)).convert(mode)
  if mode == "P":
    drawn.info["transparency"] = 3
  data = saved(drawn, kind)
  with Image.open(io.BytesIO(data)) as opened:
    expected = np.asarray(opened.convert("RGB"))
  np.testing.assert_array_equal(pictures.read_image(data), expected)
  np.testing.assert_array_equal(
    pictures.read_image(data, 16, resize="pad"), pictures.fit(Image.fromarray(expected), 16, "pad")
  )
  assert pictures.shown_size(data) == (64, 48)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_every_orientation(kind, orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = saved(Image.fromarray(clips.draw_number(5)), kind, exif=exif)
  with Image.open(io.BytesIO(data)) as opened:
    expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
  picture = pictures.read_image(data)
  np.testing.assert_array_equal(picture, expected)
  assert pictures.shown_size(data) == picture.shape[1::-1]
  assert probe(data).width == picture.shape[1]


def with_exif(exif: bytes) -> bytes:
  return saved(Image.fromarray(clips.draw_number(5)), "JPEG", exif=b"Exif\0\0" + exif, quality=95)


BROKEN_EXIF = {
  "cut": b"MM\0*\0\0\0\x08\0\x09\x01\x12",
  "elsewhere": b"MM\0*\xff\xff\xff\xff",
  "no header": b"nonsense",
  "a text as orientation": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02A\0\0\0\0\0\0\0",
  "orientation 9": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0",
  # An orientation, and a resolution that is a text: Pillow cannot write this anew.
  "a text as resolution": (
    b"MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\x01\x1a\0\x02\0\0\0\x03ab\0\0\0\0\0\0"
  ),
}


@pytest.mark.parametrize("exif", BROKEN_EXIF)
def test_broken_exif_does_not_cost_the_picture(exif):
  data = with_exif(BROKEN_EXIF[exif])
  assert clips.read_number(pictures.read_image(data)) == 5
  assert probe(data).error == ""


def test_a_turned_picture_with_broken_exif_is_turned():
  """Only the orientation is read: what else is broken does not matter."""
  data = with_exif(
    b"MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x1a\0\x02\0\0\0\x03ab\0\0\0\0\0\0"
  )
  assert pictures.read_image(data).shape == (64, 48, 3)


def test_an_animation_gives_its_first_frame():
  frames = [Image.fromarray(clips.draw_number(number)) for number in (9, 10, 11)]
  for kind in ("GIF", "WEBP", "PNG", "TIFF"):
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert clips.read_number(pictures.read_image(data)) == 9


def animation(path, count=3):
  shown = [Image.fromarray(clips.draw_number(number)) for number in range(9, 9 + count)]
  shown[0].save(path, save_all=True, append_images=shown[1:], duration=500)
  return str(path)


def test_an_animated_png_is_a_video(tmp_path):
  path = animation(tmp_path / "a.png")
  facts = probe(path)
  assert (facts.frames, facts.duration, facts.width, facts.error) == (3, 1.5, 64, "")
  for media in (path, pathlib.Path(path).read_bytes()):
    shown, seconds = frames.read_frames(media, [0, 0.6, 9], 32)
    assert clips.read_numbers(shown) == [9, 10, 11] and seconds.tolist() == [0, 0.5, 1]
  assert clips.read_number(frames.read_picture(Scene(path, "image"))) == 9
  single = animation(tmp_path / "single.png", count=1)
  assert probe(single).duration == 0


def test_an_animated_avif_is_a_video(tmp_path):
  """Its first picture is stored as a still picture as well."""
  path = animation(tmp_path / "a.avif")
  facts = probe(path)
  assert (facts.frames, facts.duration, facts.width, facts.error) == (3, 1.5, 64, "")
  shown, _ = frames.read_frames(path, [0, 0.6, 1.4], 64)
  assert clips.read_numbers(shown) == [9, 10, 11]
  assert clips.read_number(frames.read_picture(Scene(path, "image"))) == 9
  still = animation(tmp_path / "still.avif", count=1)
  assert (probe(still).frames, probe(still).duration) == (1, 0)


def test_a_heic_picture_is_refused(tmp_path):
  """FFmpeg shows one of its tiles as a video."""
  path = tmp_path / "IMG_0001.HEIC"
  path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
  assert "is a HEIC picture, which is not read; save it as JPEG or PNG" in probe(str(path)).error
  for read in (pictures.read_image, lambda media: frames.read_frames(media, [0], 32)):
    with pytest.raises(MediaError, match="is a HEIC picture"):
      read(path)


def test_an_animated_webp_is_no_video(tmp_path):
  path = animation(tmp_path / "a.webp")
  with pytest.raises(MediaError, match="is an animated WebP, which is not read as a video; save"):
    frames.read_frames(path, [0], 32)
  assert clips.read_number(frames.read_picture(Scene(path, "image"))) == 9
  still = animation(tmp_path / "still.webp", count=1)
  assert clips.read_numbers(frames.read_frames(still, [0, 5], 32)[0]) == [9, 9]


def test_files_that_run_programs_are_no_pictures(tmp_path):
  for name, text in (("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n"), ("b.jpg", b"<svg></svg>")):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(MediaError, match="is not a picture"):
      pictures.read_image(tmp_path / name)


@pytest.mark.parametrize(
  "error",
  [
    TypeError,
    struct.error,
    SyntaxError,
    AttributeError,
    OverflowError,
    RecursionError,
    IndexError,
    ZeroDivisionError,
    MemoryError,
    AssertionError,
    SystemError,
    Image.DecompressionBombError,
  ],
)
def test_whatever_pillow_raises_is_a_bad_picture(error, tmp_path, monkeypatch):
  path = clips.write_picture(tmp_path / "a.png")

  def fail(*_):
    raise error("bad\nvery bad.")

  for place in ("_open", "load", "crop"):
    with monkeypatch.context() as patch:
      patch.setattr(f"PIL.PngImagePlugin.PngImageFile.{place}", fail)
      with pytest.raises(MediaError) as caught:
        pictures.read_image(path)
    assert str(caught.value) == f"{path}: is a damaged picture (bad)."


def test_a_disk_that_fails_is_a_bad_picture(tmp_path, monkeypatch):
  path = clips.write_picture(tmp_path / "a.png")

  class Failing(io.BytesIO):
    def fileno(self):
      return 0

    def read(self, *_):
      raise OSError(5, "Input/output error")

  monkeypatch.setattr("data_pipelines.media.picture_file.open_file", lambda _: Failing(b"x"))
  monkeypatch.setattr("os.fstat", lambda _: pathlib.Path(path).stat())
  with pytest.raises(MediaError, match=r"a\.png: Input/output error\.$"):
    pictures.read_image(path)


def test_pictures_are_opened_in_one_place():
  root = pathlib.Path(data_pipelines.__file__).parents[1]
  for folder in ("data_pipelines", "filax", "configs"):
    for path in (root / folder).rglob("*.py"):
      opens = re.search(r"Image\.open\(|ImageFile\.Parser|imageio|cv2", path.read_text())
      assert not opens, f"{path} opens pictures itself; use data_pipelines.media.pictures"


def test_caches_know_the_bound_of_pictures(tmp_path):
  """A large JPEG is another picture under another bound."""
  path = clips.write_picture(tmp_path / "a.jpg", 77, 640, 480)
  small = Limits(image_pixels=100_000)
  for limits, width in ((Limits(), 640), (small, 320), (Limits(), 640)):
    index = MediaIndex(tmp_path / "index.sqlite", limits=limits, progress=None)
    assert index.probes([path])[path].width == width
    kept, _ = FrameCache(tmp_path / "frames", 24).read_frames(path, [0.0], 24, limits=limits)
    plain, _ = frames.read_frames(path, [0.0], 24, limits=limits)
    np.testing.assert_array_equal(kept, plain)


def test_a_picture_of_other_pixels_than_planned(tmp_path):
  """What planning knows of a large JPEG is the size at which it is read."""
  path = clips.write_picture(tmp_path / "a.jpg", 77, 640, 480)
  limits = Limits(image_pixels=100_000)
  assert pictures.read_image(path, limits=limits).shape == (240, 320, 3)
  assert clips.read_number(pictures.read_image(path, limits=limits)) == 77
  planned = probe(path, limits)
  assert (planned.width, planned.height) == pictures.shown_size(path, limits) == (320, 240)
