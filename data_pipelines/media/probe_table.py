# SPDX-License-Identifier: Apache-2.0
"""The index of a plan's media as arrays on disk, which all processes of a host map.

A Probe holds what the index knows of a medium: frames, duration, size and so on. A table has one
column for each of these fields, and the names of the media sorted by hash.
"""

from collections.abc import Iterator, Mapping, Sequence
import hashlib
import itertools
import os
import pathlib

import numpy as np

from data_pipelines.mapped import map_array, range_starts
from data_pipelines.media.index import describe
from data_pipelines.media.probe import Probe
from data_pipelines.unused_files import hold_folder

_NUMBERS = {  # Numeric fields of a Probe -> dtype of their column.
  "frames": np.int64,
  "duration": np.float64,
  "fps": np.float64,
  "start": np.float64,
  "width": np.int64,
  "height": np.int64,
  "rotation": np.int64,
  "mirrored": np.bool_,
  "last": np.float64,
}


class ProbeTable(Mapping[str, Probe]):
  """A mapping from the name of a medium to its Probe.

  It is pickled as the path of its folder.
  """

  def __init__(self, folder: str | os.PathLike):
    self.folder = pathlib.Path(folder)
    self._columns = {name: map_array(self.folder, name) for name in _NUMBERS}
    self._keys = map_array(self.folder, "keys")
    self._order = map_array(self.folder, "order")
    self._names = _Texts(self.folder, "name")
    self._errors = _Texts(self.folder, "error")
    self._facts = _Texts(self.folder, "facts")
    self._corner_first = map_array(self.folder, "corner_first")
    self._corners = map_array(self.folder, "corners")
    self._held = hold_folder(self.folder)  # As long as this table is used.

  def __reduce__(self):
    return type(self), (os.fspath(self.folder),)

  def __len__(self) -> int:
    return len(self._order)

  def __iter__(self) -> Iterator[str]:
    return self._names.all_texts()

  def __getitem__(self, media: str) -> Probe:
    hashed = _hash(media)
    place = int(np.searchsorted(self._keys, hashed))
    while place < len(self._keys) and self._keys[place] == hashed:  # Several names may share it.
      number = int(self._order[place])
      if self._names[number] == media:
        return self.probe(number)
      place += 1
    raise KeyError(media)

  def probe(self, number: int) -> Probe:
    """The Probe of a medium, by its number in the table."""
    values = {name: column[number].item() for name, column in self._columns.items()}
    first, stop = self._corner_first[number : number + 2].tolist()
    pairs = self._corners[first:stop].tolist()
    corners = tuple(tuple(pair) for pair in pairs)
    return Probe(**values, corners=corners, error=self._errors[number])

  def descriptions(self) -> dict[str, str]:
    """Medium -> its Probe as a short text (data_pipelines.media.index.describe)."""
    return dict(zip(self._names.all_texts(), self._facts.all_texts(), strict=True))

  def first_error(self) -> str:
    """The error of the first unreadable medium; "" if all are readable."""
    unreadable = np.flatnonzero(self.unreadable)
    if len(unreadable) == 0:
      return ""
    return self._errors[int(unreadable[0])]

  @property
  def unreadable(self) -> np.ndarray:
    """bool [media]: whether a medium has an error."""
    return self._errors.lengths() > 0


def table_arrays(media: Sequence[str], probes: Sequence[Probe]) -> dict[str, np.ndarray]:
  """The arrays of a table: name of the array -> its values."""
  arrays: dict[str, np.ndarray] = {}
  for name, dtype in _NUMBERS.items():
    arrays[name] = np.array([getattr(probe, name) for probe in probes], dtype)
  keys = np.array([_hash(name) for name in media], np.uint64)
  order = np.argsort(keys, kind="stable")
  arrays["keys"] = keys[order]
  arrays["order"] = order.astype(np.uint32)
  corners = [probe.corners for probe in probes]
  arrays["corner_first"] = range_starts([len(pairs) for pairs in corners])
  pairs = list(itertools.chain.from_iterable(corners))
  arrays["corners"] = np.array(pairs, np.float64).reshape(-1, 2)
  arrays |= _text_arrays("name", media)
  arrays |= _text_arrays("error", [probe.error for probe in probes])
  arrays |= _text_arrays("facts", [describe(probe) for probe in probes])
  return arrays


class _Texts:
  """Many texts, stored one after the other in one array of bytes."""

  def __init__(self, folder: pathlib.Path, name: str):
    self._first = map_array(folder, f"{name}_first")
    self._bytes = map_array(folder, f"{name}_bytes")

  def __getitem__(self, number: int) -> str:
    first, stop = self._first[number : number + 2].tolist()
    return self._bytes[first:stop].tobytes().decode("utf-8", "surrogateescape")

  def all_texts(self) -> Iterator[str]:
    """The texts in order."""
    joined = self._bytes.tobytes()
    for first, stop in itertools.pairwise(self._first.tolist()):
      yield joined[first:stop].decode("utf-8", "surrogateescape")

  def lengths(self) -> np.ndarray:
    return np.diff(self._first)


def _text_arrays(name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
  encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
  lengths = [len(text) for text in encoded]
  joined = np.frombuffer(b"".join(encoded), np.uint8)
  return {f"{name}_first": range_starts(lengths), f"{name}_bytes": joined}


def _hash(media: str) -> np.uint64:
  name = media.encode("utf-8", "surrogateescape")
  digest = hashlib.blake2b(name, digest_size=8).digest()
  return np.uint64(int.from_bytes(digest, "big"))
