# SPDX-License-Identifier: Apache-2.0
"""The samples of a corpus as columns on disk.

A record is parsed when its sample is needed.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import os
import pathlib
import threading
from typing import BinaryIO, overload

from data_pipelines.manifest import llava
from data_pipelines.manifest.reader import record_at
from data_pipelines.manifest.report import RecordError, place_text
from data_pipelines.mapped import map_array
from data_pipelines.media import remote
from data_pipelines.media.open import check_process
from data_pipelines.sample import Sample
from data_pipelines.unused_files import hold_folder
from filax.host_limits import open_file_limit

_FEWEST_FILES = 16  # Manifests that stay open, whatever the limit.
RECORD_COLUMNS = ("manifest", "line", "nth", "start", "stop")


@dataclasses.dataclass(frozen=True)
class ManifestFile:
  """A manifest as it was when its records were located."""

  path: str
  root: str  # The folder of its media.
  size: int
  changed: int  # Nanoseconds; the version of an object in a bucket.


class SampleTable(Sequence[Sample]):
  """Samples by number.

  Row n of the columns says in which manifest and where the record of sample n stands, and which
  media it names. The columns are mapped, so all processes of a host share them. Picklable, as the
  name of its folder.
  """

  def __init__(self, folder: str | os.PathLike, manifests: Sequence[ManifestFile]):
    self.folder = pathlib.Path(folder)
    self.manifests = tuple(manifests)
    self._manifest = map_array(self.folder, "manifest")
    self._line = map_array(self.folder, "line")
    self._nth = map_array(self.folder, "nth")
    self._start = map_array(self.folder, "start")
    self._stop = map_array(self.folder, "stop")
    self._files: OrderedDict[int, BinaryIO] = OrderedDict()  # The last used one at the end.
    self._most_files = max(_FEWEST_FILES, open_file_limit() // 2)
    self._opening = threading.Lock()
    self._held = hold_folder(self.folder)  # As long as this table is used.

  def __reduce__(self):
    return type(self), (os.fspath(self.folder), self.manifests)

  def __len__(self) -> int:
    return len(self._line)

  @overload
  def __getitem__(self, number: int) -> Sample: ...
  @overload
  def __getitem__(self, number: slice) -> Sequence[Sample]: ...
  def __getitem__(self, number):
    if isinstance(number, slice):
      return [self[n] for n in range(*number.indices(len(self)))]
    if not -len(self) <= number < len(self):
      raise IndexError(f"There are {len(self)} samples; {number} is none of them.")
    manifest = self.manifests[self._manifest[number]]
    place = int(self._manifest[number])
    try:
      record = record_at(
        manifest.path, self._file(place), int(self._start[number]), int(self._stop[number])
      )
      return llava.parse_record(record, self.origin(number), manifest.root)
    except (RecordError, ValueError, RecursionError, OSError) as error:
      check_process(error, manifest.path)
      raise ValueError(
        f"{self.origin(number)} is not the record that it was when this run began ({error}): the "
        "manifest has changed. Start again, and do not change manifests under a run."
      ) from error

  def __iter__(self) -> Iterator[Sample]:
    for number in range(len(self)):
      yield self[number]

  def origin(self, number: int) -> str:
    """Manifest and place of a sample, which name it."""
    place = place_text(int(self._line[number]), int(self._nth[number]))
    return f"{self.manifests[self._manifest[number]].path}:{place}"

  @property
  def media(self) -> list[str]:
    """The distinct media of all samples, in the order of first use."""
    names = bytes(map_array(self.folder, "names"))
    ends = map_array(self.folder, "name_first").tolist()
    media = []
    for start, stop in itertools.pairwise(ends):
      media.append(names[start:stop].decode("utf-8", "surrogateescape"))
    return media

  def _file(self, place: int) -> BinaryIO:
    """The open file of a manifest.

    It stays open, so that a replaced file stays readable. With more manifests than half of the
    files that this process may open, those that were not used for longest are opened again. They
    are let go, not closed: another thread may be reading.
    """
    with self._opening:
      if place not in self._files:
        self._files[place] = _open_manifest(self.manifests[place])
      self._files.move_to_end(place)
      if len(self._files) > self._most_files:
        self._files.popitem(last=False)
      return self._files[place]


def _open_manifest(manifest: ManifestFile) -> BinaryIO:
  """Opens a manifest.

  Raises ValueError if it is another file than it was.
  """
  if ".array_record" in os.path.basename(manifest.path):
    return open(os.devnull, "rb")  # Its records are found by number.
  file = open(remote.local_path(manifest.path), "rb")
  if _state(manifest.path, file) != (manifest.size, manifest.changed):
    file.close()
    raise ValueError("size or time of change differ")
  return file


def _state(path: str, file: BinaryIO) -> tuple[int, int]:
  """Size and time of change, or version, of an open manifest."""
  if remote.is_remote(path):
    return remote.state(path)
  facts = os.fstat(file.fileno())
  return facts.st_size, facts.st_mtime_ns


def manifest_file(path: str, root: str) -> ManifestFile:
  """A manifest as it is now.

  The size is 0 for shards of an ArrayRecord.
  """
  try:
    size, changed = remote.state(path)
  except OSError:
    return ManifestFile(path, root, 0, 0)
  return ManifestFile(path, root, size, changed)
