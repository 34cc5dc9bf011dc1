# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed. A target makes small sound files, and `run` reads one after damage to it.

`run` raises for anything but the outcomes that are allowed: a MediaError, a bad record that is
named, or a cache that is made anew.
"""

import io
import json
import pathlib

import numpy as np
from PIL import Image

from data_pipelines.manifest import llava
from data_pipelines.media import frames, pictures
from data_pipelines.media.cache import FrameCache
from data_pipelines.media.open import Limits, MediaError
from data_pipelines.media.probe import probe
from filax.testing import clips, manifests

LIMITS = Limits(open_seconds=5.0, decode_seconds=5.0)
SIZE = 16


class Pictures:
  """Damaged pictures, as files and as bytes."""

  suffix = ".png"

  def __init__(self, folder: pathlib.Path):
    drawn = Image.fromarray(clips.draw_number(77))
    kinds = (
      ("JPEG", {}),
      ("JPEG", dict(progressive=True)),
      ("PNG", {}),
      ("GIF", {}),
      ("WEBP", {}),
      ("WEBP", dict(lossless=True)),
      ("BMP", {}),
      ("TIFF", {}),
      ("PPM", {}),
      ("AVIF", {}),
      ("TIFF", dict(compression="tiff_deflate")),
      ("TIFF", dict(compression="jpeg")),
      ("TIFF", dict(compression="tiff_lzw")),
      ("JPEG2000", {}),
      ("PCX", {}),
      ("QOI", {}),
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "A picture."
    self.seeds = []
    for kind, options in kinds:
      file = io.BytesIO()
      more = dict(exif=exif) if kind in ("JPEG", "PNG", "WEBP") else {}
      drawn.save(file, kind, **options, **more)
      self.seeds.append(file.getvalue())
    depth = io.BytesIO()
    Image.fromarray(clips.draw_number(77)[..., 0].astype(np.uint16) * 200).save(depth, "PNG")
    self.seeds.append(depth.getvalue())

  def run(self, data: bytes, path: pathlib.Path):
    facts = probe(str(path), LIMITS)
    for media in (str(path), data):
      try:
        picture = pictures.read_image(media, limits=LIMITS)
      except MediaError as error:
        assert "\n" not in str(error)
        continue
      assert picture.dtype == np.uint8 and picture.shape[2:] == (3,)
      if data[:4] in (b"\x89PNG", b"RIFF") or data[:3] == b"\xff\xd8\xff":
        assert (facts.height, facts.width) == picture.shape[:2]


class Videos:
  """Damaged videos: their facts, and frames by time."""

  suffix = ".mp4"

  def __init__(self, folder: pathlib.Path):
    names = ("a.mp4", "a.mkv", "a.ts")
    paths = [clips.write_video(folder / name, 20) for name in names]
    paths.append(clips.write_video(folder / "a.avi", 20, codec="mpeg4"))
    paths.append(clips.write_video(folder / "a.webm", 12, codec="libvpx-vp9"))
    self.seeds = [pathlib.Path(path).read_bytes() for path in paths]

  def run(self, data: bytes, path: pathlib.Path):
    facts = probe(str(path), LIMITS)
    assert "\n" not in facts.error
    try:
      shown, seen = frames.read_frames(str(path), [0.0, 0.7, 1.9], SIZE, limits=LIMITS)
    except MediaError as error:
      assert "\n" not in str(error)
    else:
      assert shown.shape == (3, SIZE, SIZE, 3) and np.isfinite(seen).all()


class Manifests:
  """Damaged manifests: every record is a sample, or bad by name."""

  suffix = ".json"

  def __init__(self, folder: pathlib.Path):
    records = [
      manifests.question_record(
        "<image>\nWhat is this?", video="a.mp4", start=0.5, end=2.0, id="one"
      ),
      manifests.question_record("<image> or <image>?", image=["a.png", "b.png"]),
      manifests.question_record(
        "<image>\nq", scenes=[dict(media="a.mp4", t0=0.0, t1=1.0), dict(media="b.mp4")]
      ),
      manifests.question_record("What is the capital of France?", "Paris — \u2603."),
    ]
    self.seeds = [
      pathlib.Path(manifests.write_manifest(folder / f"a.{kind}", records)).read_bytes()
      for kind in ("json", "jsonl")
    ]
    self.seeds.append(json.dumps(records, indent=1, ensure_ascii=False).encode())

  def run(self, data: bytes, path: pathlib.Path):
    report = llava.ManifestReport()
    try:
      samples = list(llava.read_manifest(path, report=report))
    except llava.ManifestError as error:
      assert str(path) in str(error)
      return
    assert report.samples == len(samples)
    for bad in report.bad:
      assert str(bad).startswith(f"{path}:")


class Caches:
  """Damaged caches of decoded frames: the frames are the same, whatever is in the folder."""

  suffix = ".npy"

  def __init__(self, folder: pathlib.Path):
    self.media = clips.write_video(folder / "a.mp4", 20)
    self.folder = folder / "cache"
    self.times = [0.0, 0.7, 1.9]
    self.expected = frames.read_frames(self.media, self.times, SIZE)
    self._read()
    self.files = [path for path in sorted(self.folder.iterdir()) if path.is_file()]
    self.seeds = [path.read_bytes() for path in self.files]

  def run(self, data: bytes, path: pathlib.Path):
    for file, sound in zip(self.files, self.seeds, strict=True):
      file.write_bytes(sound)
    self.files[hash(data) % len(self.files)].write_bytes(data)
    for ours, theirs in zip(self._read(), self.expected, strict=True):
      np.testing.assert_array_equal(ours, theirs)

  def _read(self):
    return FrameCache(self.folder, SIZE).read_frames(self.media, self.times, SIZE)
