# SPDX-License-Identifier: Apache-2.0
"""Writes safetensors shards in any order of tensors.

All names and shapes are known in advance, so headers are written and disk space is allocated at the
start. A full disk is noticed before hours of work, and only one tensor is in memory at a time.
Shards have at most a given size.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import math
import os
from pathlib import Path
import re
import struct
from typing import Any

import numpy as np

from filax.convert.torch_files import DTYPES, read_header

CODES = {dtype: code for code, dtype in DTYPES.items()}
GB = 10**9
INDEX = "model.safetensors.index.json"


@dataclasses.dataclass(frozen=True)
class TensorSpec:
  """The name, shape and dtype of a tensor."""

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype

  @property
  def size(self) -> int:
    """The size in bytes."""
    return math.prod(self.shape) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class _Slot:
  """The place of a tensor in a file."""

  file: str
  offset: int
  spec: TensorSpec


class ShardWriter:
  """Open files of one model, a context manager.

  Call `write_tensor` once for each tensor, then `finish`.
  """

  def __init__(self, folder: Path, specs: Iterable[TensorSpec], limit: int = 5 * GB):
    """`limit`: bytes of a file; a single larger tensor may exceed it."""
    in_order = sorted(specs, key=lambda spec: natural_key(spec.name))
    groups = group_by_size(in_order, limit)
    self.total = sum(spec.size for spec in in_order)
    self._folder = folder
    self._descriptors: dict[str, int] = {}  # File -> descriptor.
    self._slots: dict[str, _Slot] = {}  # Name -> place of a tensor that is not written yet.
    folder.mkdir(parents=True, exist_ok=True)
    for number, group in enumerate(groups, 1):
      self._start_file(f"model-{number:05d}-of-{len(groups):05d}.safetensors", group)

  def _start_file(self, file: str, group: Sequence[TensorSpec]) -> None:
    header = encode_header(group)
    descriptor = os.open(self._folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    self._descriptors[file] = descriptor
    _write_at(descriptor, header, 0)
    offset = len(header)
    for spec in group:
      self._slots[spec.name] = _Slot(file, offset, spec)
      offset += spec.size
    _reserve(descriptor, len(header), offset)

  def write_tensor(self, name: str, x: np.ndarray) -> None:
    """Writes a tensor.

    Raises ValueError if shape or dtype differ from its TensorSpec.
    """
    slot = self._slots.pop(name)
    spec = slot.spec
    if x.shape != spec.shape or x.dtype != spec.dtype:
      raise ValueError(f"{name} is {x.shape} {x.dtype}, announced as {spec.shape} {spec.dtype}.")
    content = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
    _write_at(self._descriptors[slot.file], content, slot.offset)

  def finish(self, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the index.

    Raises ValueError if a tensor was not written.
    """
    if self._slots:
      raise ValueError(f"{len(self._slots)} tensors were never written: {min(self._slots)}, ...")
    weight_map: dict[str, str] = {}
    for file, descriptor in self._descriptors.items():
      os.fsync(descriptor)
      entries, _ = read_header(self._folder / file)
      entries.pop("__metadata__", None)
      weight_map |= dict.fromkeys(entries, file)
    index = {
      "metadata": {"total_size": self.total, **(metadata or {})},
      "weight_map": dict(sorted(weight_map.items())),
    }
    (self._folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for descriptor in self._descriptors.values():
      os.close(descriptor)
    self._descriptors = {}


def write_safetensors(
  file: Path,
  arrays: Mapping[str, np.ndarray],
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes a small safetensors file in one go."""
  specs = []
  contents = []
  for name, x in arrays.items():
    x = np.ascontiguousarray(x)
    specs.append(TensorSpec(name, x.shape, x.dtype))
    contents.append(x.reshape(-1).view(np.uint8).data)
  file.parent.mkdir(parents=True, exist_ok=True)
  with file.open("wb") as f:
    f.write(encode_header(specs, metadata))
    f.writelines(contents)


def encode_header(specs: Sequence[TensorSpec], metadata: Mapping[str, str] | None = None) -> bytes:
  """The header of a safetensors file.

  It names the format "pt": transformers before 4.48 requires it.
  """
  entries: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
  offset = 0
  for spec in specs:
    end = offset + spec.size
    entries[spec.name] = {
      "dtype": CODES[spec.dtype],
      "shape": list(spec.shape),
      "data_offsets": [offset, end],
    }
    offset = end
  content = json.dumps(entries, separators=(",", ":")).encode()
  content += b" " * (-len(content) % 8)
  return struct.pack("<Q", len(content)) + content


def group_by_size(specs: Sequence[TensorSpec], limit: int) -> list[list[TensorSpec]]:
  """Consecutive groups of at most `limit` bytes; at least one group."""
  groups: list[list[TensorSpec]] = [[]]
  size = 0
  for spec in specs:
    if groups[-1] and size + spec.size > limit:
      groups.append([])
      size = 0
    groups[-1].append(spec)
    size += spec.size
  return groups


def natural_key(name: str) -> list[tuple[int, str]]:
  """A sorting key that puts layer 10 after layer 9."""
  key = []
  for part in re.split(r"(\d+)", name):
    if part.isdigit():
      key.append((int(part), ""))
    else:
      key.append((-1, part))
  return key


def _reserve(descriptor: int, start: int, stop: int) -> None:
  """Makes a file `stop` bytes long, from its present end `start`.

  Where the system can, it reserves the space, so that a full disk is reported before any work.
  """
  if stop == start:
    return
  if hasattr(os, "posix_fallocate"):
    os.posix_fallocate(descriptor, start, stop - start)
  else:  # macOS.
    os.ftruncate(descriptor, stop)


def _write_at(descriptor: int, content, offset: int) -> None:
  view = memoryview(content)
  while len(view):
    count = os.pwrite(descriptor, view[: 1 << 30], offset)
    view = view[count:]
    offset += count
