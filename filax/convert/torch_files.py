# SPDX-License-Identifier: Apache-2.0
"""Files of tensors, read lazily: safetensors without torch; .bin, .pt and .pth with it.

`open_all` maps the names in a folder or file to `Tensor`s, which know shape and dtype and read what
they are sliced for. Whatever is wrong with the files is collected and raised together.
"""

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import math
import os
from pathlib import Path
import struct
from typing import Any

import ml_dtypes
import numpy as np

from filax.checkpoint import safe_files
from filax.convert import ConversionError

DTYPES = {  # The names of the safetensors format -> NumPy.
  "F64": np.dtype(np.float64),
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": np.dtype(ml_dtypes.bfloat16),
}
BY_NAME = {dtype.name: dtype for dtype in DTYPES.values()}
TORCH = (".bin", ".pt", ".pth")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
BLOCK = 64 << 20  # Bytes hashed or checked at a time.


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor in a file. `tensor[rows, columns]` reads; `dtype` is None for what is not a float."""

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype | None
  stored: str  # The dtype as the file calls it.
  file: Path
  get: Callable[[tuple[slice, ...]], np.ndarray] = dataclasses.field(repr=False, compare=False)

  def __getitem__(self, index) -> np.ndarray:
    index = index if isinstance(index, tuple) else (index,)
    return self.get(index + (slice(None),) * (len(self.shape) - len(index)))

  @property
  def size(self) -> int:
    """Bytes."""
    return math.prod(self.shape) * (self.dtype.itemsize if self.dtype else 1)


def open_all(path: str | os.PathLike) -> dict[str, Tensor]:
  """Every tensor of a folder (with or without an index) or of one file, by name.

  Raises ConversionError listing missing shards, cut or unreadable files and double names; OSError
  if there is nothing to read.
  """
  path = Path(path)
  files, promised = _files(path)
  problems = {"missing files": [], "unreadable files": [], "names found twice": []}
  found: dict[str, Tensor] = {}
  for file in files:
    if not file.exists():
      problems["missing files"].append(f"{file.name} (named by the index)")
      continue
    try:
      safe_files.check_regular(file)
      tensors = _torch(file) if file.suffix in TORCH else safetensors(file)
    except (ValueError, OSError) as error:
      problems["unreadable files"].append(str(error))
      continue
    problems["names found twice"] += sorted(set(found) & set(tensors))
    found |= tensors
  if not any(problems.values()):
    problems["tensors that the index names but no file holds"] = sorted(promised - set(found))
  if any(problems.values()):
    raise ConversionError(f"The weights in {path} are damaged", problems)
  return found


def _files(path: Path) -> tuple[list[Path], set[str]]:
  """The files that hold a model's tensors, and the names that an index promises."""
  if path.is_file():
    return [path], set()
  if not path.is_dir():
    raise FileNotFoundError(f"There is no file or folder {path}.")
  for index in INDEXES:
    if (path / index).exists():
      names = _weight_map(path / index)
      return _named_files(path, index, names), set(names)
  for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth"):
    if files := sorted(path.glob(pattern)):
      return [file for file in files if not file.name.startswith("training_args")], set()
  raise FileNotFoundError(
    f"{path} holds no weights: no *.safetensors, *.bin, *.pt or *.pth, and no index of them."
  )


def _named_files(folder: Path, index: str, names: dict[str, str]) -> list[Path]:
  """The files that an index names. Raises ConversionError for those outside of its folder."""
  files, outside = [], []
  for name in sorted(set(names.values())):
    try:
      files.append(safe_files.inside(folder, name))
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: links in a circle.
      outside.append(str(error))
  if outside:
    raise ConversionError(f"The index {index} in {folder} is refused", {"files elsewhere": outside})
  return files


def _weight_map(index: Path) -> dict[str, str]:
  """Name -> file. Raises ConversionError if the index does not say so."""
  try:
    content = safe_files.read_json(index)["weight_map"]
    return {str(name): str(file) for name, file in content.items()}
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    reason = f" ({error})" if isinstance(error, safe_files.Wrong) else ""
    raise ConversionError(
      f"The weights in {index.parent} are damaged",
      {"unreadable files": [f"{index.name} has no readable weight_map{reason}"]},
    ) from None


def header(file: Path) -> tuple[dict[str, Any], int]:
  """The JSON header of a safetensors file and the offset of its data; ValueError if cut short."""
  safe_files.check_regular(file)
  total = file.stat().st_size
  with file.open("rb") as f:
    start = f.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else total
    if length + 8 > total:
      raise ValueError(f"{file.name} is cut short or no safetensors file ({total} bytes)")
    if length > safe_files.LARGEST_JSON:
      raise ValueError(
        f"{file.name} has a header of {length:,} bytes, more than {safe_files.LARGEST_JSON:,}"
      )
    try:
      entries = safe_files.parse_json(f.read(length))
      extents = [(*_extent(name, e), name) for name, e in entries.items() if name != "__metadata__"]
      _check_apart(extents)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
      reason = f" ({error})" if isinstance(error, safe_files.Wrong) else ""
      raise ValueError(f"{file.name} has no readable safetensors header{reason}") from None
  end = max((stop for _, stop, _ in extents), default=0)
  if end + length + 8 > total:
    raise ValueError(
      f"{file.name} is cut short: its header promises {end + length + 8} bytes, it has {total}"
    )
  return entries, length + 8


def _extent(name: str, entry: dict[str, Any]) -> tuple[int, int]:
  """Where a tensor begins and ends; its shape and dtype must take that many bytes."""
  start, stop = entry["data_offsets"]
  shape = entry["shape"]
  dtype = DTYPES.get(entry["dtype"])
  counts = all(type(number) is int and number >= 0 for number in (start, stop, *shape))
  fits = counts and start <= stop
  if fits and dtype is not None:
    fits = math.prod(shape) * dtype.itemsize == stop - start
  if not fits:
    raise safe_files.Wrong(f"{name} is {tuple(shape)} {entry['dtype']} in {stop - start} bytes")
  return start, stop


def _check_apart(extents: Sequence[tuple[int, int, str]]) -> None:
  """Raises ValueError if two tensors share bytes."""
  end, before = 0, ""
  for start, stop, name in sorted(extents):
    if start < end and start < stop:
      raise safe_files.Wrong(f"{name} overlaps {before}")
    if stop > end:
      end, before = stop, name


def safetensors(file: Path) -> dict[str, Tensor]:
  """The tensors of one safetensors file."""
  entries, start = header(file)
  entries.pop("__metadata__", None)
  found = {}
  for name, entry in entries.items():
    shape, dtype = tuple(entry["shape"]), DTYPES.get(entry["dtype"])
    offset = start + entry["data_offsets"][0]
    found[name] = Tensor(
      name, shape, dtype, entry["dtype"], file, _reader(file, shape, dtype, offset)
    )
  return found


def _reader(file: Path, shape, dtype, offset: int):
  """A function of an index that maps the file, copies what is asked for, and lets go of it."""

  def get(index: tuple[slice, ...]) -> np.ndarray:
    if not math.prod(shape):
      return np.zeros(shape, dtype)[index]
    whole = np.memmap(file, np.uint8, "r", offset, (math.prod(shape) * dtype.itemsize,))
    return np.array(whole.view(np.ndarray).view(dtype).reshape(shape)[index])

  return get


def _torch(file: Path) -> dict[str, Tensor]:
  """The tensors of a torch pickle, by torch's restricted unpickler."""
  try:
    import torch
  except ImportError:
    raise ValueError(
      f"{file.name} is a torch file: install torch (pip install filax[convert]), or convert it to "
      f"safetensors first"
    ) from None
  try:
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
  except Exception as error:  # torch raises many kinds; all mean that it cannot be read safely.
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(f"{file.name} cannot be read with weights_only=True: {reason}") from None
  for key in ("state_dict", "model", "module"):
    if isinstance(state, dict) and isinstance(state.get(key), dict):
      state = state[key]
  if not isinstance(state, dict):
    raise ValueError(f"{file.name} holds a {type(state).__name__}, not a dict of tensors")
  return {
    name: _torch_tensor(name, tensor, file)
    for name, tensor in state.items()
    if isinstance(tensor, torch.Tensor)
  }


def _is_zip(file: Path) -> bool:
  with file.open("rb") as f:
    return f.read(4) == b"PK\x03\x04"


def _torch_tensor(name: str, tensor, file: Path) -> Tensor:
  import torch

  short = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
  stored = short.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))

  def get(index):
    part = tensor[index].contiguous()
    if part.dtype == torch.bfloat16:  # NumPy has no bfloat16 of its own.
      return part.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return np.array(part.numpy())

  return Tensor(name, tuple(tensor.shape), DTYPES.get(stored), stored, file, get)


def check_dtypes(tensors: dict[str, Tensor]) -> list[str]:
  """Names of the tensors that are no plain floats (fp8, integers of a quantised model)."""
  return [f"{t.name} is {t.stored}" for t in tensors.values() if t.dtype is None]


def finite(x: np.ndarray) -> bool:
  """Whether every number is finite, without a temporary as large as the array."""
  bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[x.dtype.itemsize]
  top = np.array(np.inf, x.dtype).view(bits)  # The exponent, all ones: infinity or NaN.
  flat = np.ascontiguousarray(x).reshape(-1).view(bits)
  step = BLOCK // x.dtype.itemsize
  return not any(((flat[i : i + step] & top) == top).any() for i in range(0, len(flat), step))


def digest(x: np.ndarray) -> str:
  """sha256 of the bytes of an array in row-major order."""
  return hashlib.sha256(np.ascontiguousarray(x).reshape(-1).view(np.uint8)).hexdigest()
