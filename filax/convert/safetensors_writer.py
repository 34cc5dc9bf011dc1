# SPDX-License-Identifier: Apache-2.0
"""Writes safetensors: shards of at most a given size, laid out in advance, filled in any order.

All names and shapes are known before the first byte, so the headers are written and the space is
taken at the start: a full disk shows before hours of work, and no more than one tensor is held.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import math
import os
from pathlib import Path
import re
import struct

import numpy as np

from filax.convert.torch_files import DTYPES

CODES = {dtype: code for code, dtype in DTYPES.items()}
GB = 10**9
INDEX = "model.safetensors.index.json"


@dataclasses.dataclass(frozen=True)
class Spec:
  """A tensor to come."""

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype

  @property
  def size(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize


class Shards:
  """Open files of one model. Use as a context manager: `put` every tensor once, then `close`."""

  def __init__(self, folder: Path, specs: Iterable[Spec], limit: int = 5 * GB):
    """`limit`: bytes of a file, which a single larger tensor may exceed."""
    groups = split(sorted(specs, key=lambda spec: natural(spec.name)), limit)
    self._files: dict[str, int] = {}
    self._places: dict[str, tuple[str, int, Spec]] = {}  # name -> file, offset, spec.
    self.total = sum(spec.size for group in groups for spec in group)
    self._folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    for i, group in enumerate(groups, 1):
      self._start(f"model-{i:05d}-of-{len(groups):05d}.safetensors", group)

  def _start(self, file: str, group: Sequence[Spec]) -> None:
    head, offset = header(group), 0
    descriptor = os.open(self._folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    self._files[file] = descriptor
    _write(descriptor, head, 0)
    for spec in group:
      self._places[spec.name] = file, len(head) + offset, spec
      offset += spec.size
    if offset:
      os.posix_fallocate(descriptor, len(head), offset)

  def put(self, name: str, x: np.ndarray) -> None:
    """Writes a tensor. Raises ValueError if it is not what was announced."""
    file, offset, spec = self._places.pop(name)
    if x.shape != spec.shape or x.dtype != spec.dtype:
      raise ValueError(f"{name} is {x.shape} {x.dtype}, announced as {spec.shape} {spec.dtype}.")
    flat = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
    _write(self._files[file], memoryview(flat), offset)

  def close(self, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the index. Raises ValueError if a tensor never came."""
    if self._places:
      raise ValueError(f"{len(self._places)} tensors were never written: {min(self._places)}, ...")
    weight_map = {}
    for file, descriptor in self._files.items():
      os.fsync(descriptor)
      names = _names(self._folder / file)
      weight_map |= dict.fromkeys(names, file)
    index = {
      "metadata": {"total_size": self.total, **(metadata or {})},
      "weight_map": dict(sorted(weight_map.items())),
    }
    (self._folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for descriptor in self._files.values():
      os.close(descriptor)
    self._files = {}


def write(file: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None):
  """A small safetensors file in one go."""
  arrays = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
  specs = [Spec(name, x.shape, x.dtype) for name, x in arrays.items()]
  file.parent.mkdir(parents=True, exist_ok=True)
  with file.open("wb") as f:
    f.write(header(specs, metadata))
    for x in arrays.values():
      f.write(memoryview(x.reshape(-1).view(np.uint8)))


def header(specs: Sequence[Spec], metadata: Mapping[str, str] | None = None) -> bytes:
  """The start of a safetensors file. Without the format, transformers before 4.48 refuses it."""
  entries: dict = {"__metadata__": {"format": "pt", **(metadata or {})}}
  offset = 0
  for spec in specs:
    entries[spec.name] = {
      "dtype": CODES[spec.dtype],
      "shape": list(spec.shape),
      "data_offsets": [offset, offset + spec.size],
    }
    offset += spec.size
  text = json.dumps(entries, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)
  return struct.pack("<Q", len(text)) + text


def split(specs: Sequence[Spec], limit: int) -> list[list[Spec]]:
  """Consecutive groups of at most `limit` bytes; at least one group."""
  groups: list[list[Spec]] = [[]]
  for spec in specs:
    if groups[-1] and sum(s.size for s in groups[-1]) + spec.size > limit:
      groups.append([])
    groups[-1].append(spec)
  return groups


def natural(name: str) -> list:
  """A sorting key that puts layer 10 after layer 9."""
  return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _write(descriptor: int, data, offset: int) -> None:
  view = memoryview(data)
  while len(view):
    done = os.pwrite(descriptor, view[: 1 << 30], offset)
    view, offset = view[done:], offset + done


def _names(file: Path) -> list[str]:
  from filax.convert.torch_files import header as read

  entries, _ = read(file)
  return [name for name in entries if name != "__metadata__"]
