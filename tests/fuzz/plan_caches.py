# SPDX-License-Identifier: Apache-2.0
"""Fuzzed: the caches of planning (facts of media, sizes of samples) and of encoded videos."""

import dataclasses
import hashlib
import io
import pathlib

import numpy as np

from data_pipelines.media.index import MediaIndex
from data_pipelines.packing.demand import SampleDemand
from data_pipelines.packing.demand_table import DemandTable
from data_pipelines.packing.sample_layout import Composer
from filax import files
from filax.spec import VisualLayout
from filax.testing import clips


class PlanCaches:
  """A damaged index of media, or damaged sizes of samples: both are measured anew."""

  suffix = ".json"

  def __init__(self, folder: pathlib.Path):
    self.folder = folder / "index"
    self.media = [clips.write_video(folder / "a.mp4", 20), clips.write_picture(folder / "a.png", 7)]
    self.expected = self._probes()
    self.sizes = np.arange(15).reshape(5, 3)
    self._sizes()
    self.files = [path for path in sorted(self.folder.iterdir()) if path.is_file()]
    self.seeds = [path.read_bytes() for path in self.files]

  def run(self, data: bytes, path: pathlib.Path):
    for file, sound in zip(self.files, self.seeds, strict=True):
      file.write_bytes(sound)
    self.files[hash(data) % len(self.files)].write_bytes(data)
    assert self._probes() == self.expected
    np.testing.assert_array_equal(self._sizes(), self.sizes)

  def _probes(self):
    return MediaIndex(self.folder / "index.sqlite", progress=None).probes(self.media)

  def _sizes(self) -> np.ndarray:
    composer = _Counted({}, VisualLayout(16, 1, (1, 1), (1, 1)), None, {}, 0)
    return DemandTable(composer, range(5), str(self.folder), "0" * 64)(0).columns()


@dataclasses.dataclass(frozen=True)
class _Counted(Composer):
  """Gives samples known sizes."""

  vary = False

  def demands(self, samples, first, epoch):
    measured = []
    for number in range(first, first + len(samples)):
      measured.append(SampleDemand(3 * number, 3 * number + 1, 3 * number + 2))
    return measured


class EncodedVideos:
  """Damaged features of `chat --encode-cache`: the video is encoded anew."""

  suffix = ".npz"

  def __init__(self, folder: pathlib.Path):
    from filax.infer import encode_long

    self.streaming = encode_long
    self.path = folder / f"{hashlib.sha256(b'video').hexdigest()}.npz"
    self.table = np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)
    self.times = np.arange(4, dtype=np.float64)
    content = io.BytesIO()
    np.savez(content, table=self.table, times=self.times)
    files.write_checked(self.path, content.getvalue(), self.path.stem)
    self.seeds = [self.path.read_bytes()]

  def run(self, data: bytes, path: pathlib.Path):
    self.path.write_bytes(data)
    kept = files.read_cache(self.path, self.streaming._parse_cache, self.path.stem)
    if kept is not None:
      np.testing.assert_array_equal(kept[0], self.table)
      np.testing.assert_array_equal(kept[1], self.times)
