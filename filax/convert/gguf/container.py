# SPDX-License-Identifier: Apache-2.0
"""The fields and tensors of a GGUF file, checked before use."""

from collections.abc import Sequence
import math
from pathlib import Path
from typing import Any

import numpy as np

from filax.checkpoint import safe_files

SUFFIX = ".gguf"
ARCHITECTURES = ("llama", "qwen2", "qwen3")


class GgufFile:
  """An open GGUF file of a known architecture.

  `fields` are its settings by name, `tensors` those of the library, mapped and not yet read. Raises
  ValueError if the file is cut short or damaged, or if its architecture is another.
  """

  def __init__(self, path: Path):
    safe_files.check_regular(path)
    reader = _open_reader(path)
    self.path = path
    self.tensors = list(reader.tensors)
    self._fields = reader.fields
    _check_complete(path, self.tensors)
    self.architecture = self.text("general.architecture")
    if self.architecture not in ARCHITECTURES:
      raise ValueError(
        f"{path.name} holds a model of architecture {self.architecture!r}. Only "
        f"{', '.join(ARCHITECTURES)} can be read."
      )

  def value(self, name: str, default: Any = None) -> Any:
    """A setting; `default` if the file lacks it."""
    field = self._fields.get(name)
    return default if field is None else field.contents()

  def text(self, name: str) -> str:
    """A setting that must be text. Raises ValueError."""
    value = self.value(name)
    if not isinstance(value, str):
      raise ValueError(f"{self.path.name} has {name}={value!r}, which is not a text.")
    return value

  def size(self, name: str, default: int | None = None) -> int:
    """A positive whole number of the architecture. Raises ValueError."""
    name = f"{self.architecture}.{name}"
    value = self.value(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise ValueError(f"{self.path.name} has {name}={value!r}, which is not a size.")
    return value

  def number(self, name: str, default: float) -> float:
    """A positive number of the architecture. Raises ValueError."""
    name = f"{self.architecture}.{name}"
    value = self.value(name, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
      raise ValueError(f"{self.path.name} has {name}={value!r}, which is not a positive number.")
    return float(value)


def is_gguf(path: Path) -> bool:
  """Whether a path names a GGUF file."""
  return path.suffix.lower() == SUFFIX


def _open_reader(path: Path) -> Any:
  try:
    import gguf
  except ImportError:
    raise ValueError(
      f"{path.name} is a GGUF file: install the library that reads it with "
      f"pip install 'filax[gguf]'."
    ) from None

  class Reader(gguf.GGUFReader):
    """The library's reader on a plain view of the mapped file.

    It slices the file once for each word of a vocabulary, and slicing a np.memmap is slow.
    """

    @property
    def data(self) -> Any:
      return self._data

    @data.setter
    def data(self, mapped: np.ndarray) -> None:
      self._data: Any = mapped.view(np.ndarray)

  try:
    return Reader(path)
  except Exception as error:  # The library raises many kinds for a damaged file.
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(f"{path.name} is cut short or no GGUF file ({reason}).") from None


def _check_complete(path: Path, tensors: Sequence[Any]) -> None:
  """Raises ValueError if a tensor ends beyond the file."""
  total = path.stat().st_size
  for tensor in tensors:
    end = int(tensor.data_offset) + int(tensor.n_bytes)
    if end > total:
      raise ValueError(
        f"{path.name} is cut short: {tensor.name} ends at byte {end:,} of {total:,}."
      )
