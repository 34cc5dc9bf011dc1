# SPDX-License-Identifier: Apache-2.0
"""Facts of the media of a plan as arrays that all processes of a host map."""

from collections.abc import Iterator, Mapping, Sequence
import hashlib
import itertools
import os
import pathlib

import numpy as np

from data_pipelines.mapped import map_array, range_starts
from data_pipelines.media.index import describe
from data_pipelines.media.probe import Probe

_NUMBERS = {  # Fields of a Probe, as columns.
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
  """Medium -> Probe. Picklable, as the name of its folder."""

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

  def __reduce__(self):
    return type(self), (os.fspath(self.folder),)

  def __len__(self) -> int:
    return len(self._order)

  def __iter__(self) -> Iterator[str]:
    return self._names.all_texts()

  def __getitem__(self, media: str) -> Probe:
    key = _key(media)
    place = int(np.searchsorted(self._keys, key))
    while place < len(self._keys) and self._keys[place] == key:
      number = int(self._order[place])
      if self._names[number] == media:
        return self.probe(number)
      place += 1
    raise KeyError(media)

  def probe(self, number: int) -> Probe:
    """The facts of a medium, by its number in the table."""
    values = {name: column[number].item() for name, column in self._columns.items()}
    first, stop = self._corner_first[number : number + 2].tolist()
    corners = tuple(map(tuple, self._corners[first:stop].tolist()))
    return Probe(**values, corners=corners, error=self._errors[number])

  def descriptions(self) -> dict[str, str]:
    """Medium -> its facts as a short text (data_pipelines.media.index.describe)."""
    return dict(zip(self._names.all_texts(), self._facts.all_texts(), strict=True))

  def first_error(self) -> str:
    """The first error of a medium; "" if all are readable."""
    numbers = np.flatnonzero(self.unreadable)
    return self._errors[int(numbers[0])] if len(numbers) else ""

  @property
  def unreadable(self) -> np.ndarray:
    """bool [media]: whether a medium has an error."""
    return self._errors.lengths() > 0


def table_arrays(media: Sequence[str], probes: Sequence[Probe]) -> dict[str, np.ndarray]:
  """The arrays of a table of `media` and their facts."""
  arrays: dict[str, np.ndarray] = {}
  for name, dtype in _NUMBERS.items():
    arrays[name] = np.array([getattr(probe, name) for probe in probes], dtype)
  keys = np.array([_key(name) for name in media], np.uint64)
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
  """Texts one after the other in one array of bytes."""

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
  joined = np.frombuffer(b"".join(encoded), np.uint8)
  return {f"{name}_first": range_starts([len(text) for text in encoded]), f"{name}_bytes": joined}


def _key(media: str) -> np.uint64:
  digest = hashlib.blake2b(media.encode("utf-8", "surrogateescape"), digest_size=8).digest()
  return np.uint64(int.from_bytes(digest, "big"))
