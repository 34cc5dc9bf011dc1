# SPDX-License-Identifier: Apache-2.0
"""Lazy reading of tensor files.

safetensors needs no torch; .bin, .pt and .pth do, and .gguf needs the library gguf. `open_tensors`
maps the names in a folder or file to `FileTensor`s, which know shape and dtype and read only their
slices. All problems of the files are collected and raised together.
"""

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import math
import os
from pathlib import Path
import pickle
import struct
from typing import Any

import ml_dtypes
import numpy as np

from filax.checkpoint import safe_files
from filax.convert import ConversionError, UnreadableWeights
from filax.convert.gguf import container

DTYPES = {  # The names of the safetensors format -> NumPy.
  "F64": np.dtype(np.float64),
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": np.dtype(ml_dtypes.bfloat16),
}
DTYPE_BY_NAME = {dtype.name: dtype for dtype in DTYPES.values()}
TORCH_SUFFIXES = (".bin", ".pt", ".pth")
INDEX = ".index.json"  # Ends the name of an index, which names the files of a model.
WHOLE = (  # Each stands for all weights. Of several, transformers reads the first.
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
)
# What torch.compile, FSDP and checkpointing insert into names. Data parallelism adds "module." in
# front.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_POINTER = b"version https://git-lfs"
BLOCK = 64 << 20  # Bytes hashed or checked at a time.


@dataclasses.dataclass(frozen=True)
class FileTensor:
  """A tensor in a file.

  `tensor[rows, columns]` reads; `dtype` is None for a tensor that is not floating point.
  """

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype | None
  stored: str  # The file's name of the dtype.
  file: Path
  get: Callable[[tuple[slice, ...]], np.ndarray] = dataclasses.field(repr=False, compare=False)

  def __getitem__(self, index) -> np.ndarray:
    index = index if isinstance(index, tuple) else (index,)
    missing = len(self.shape) - len(index)
    return self.get(index + (slice(None),) * missing)

  def read_all(self) -> np.ndarray:
    """The content of the tensor."""
    return self[...,]

  @property
  def size(self) -> int:
    """The size in bytes."""
    return math.prod(self.shape) * (self.dtype.itemsize if self.dtype else 1)


def open_tensors(path: str | os.PathLike) -> dict[str, FileTensor]:
  """The tensors of a folder or file, by name.

  A folder may have an index. The names are those of the model, without PyTorch's wrappers. Raises
  ConversionError listing missing shards, cut or unreadable files and duplicate names; OSError if
  there is nothing to read.
  """
  path = Path(path)
  files, promised = _weight_files(path)
  problems: dict[str, list[str]] = {
    "missing files": [],
    "unreadable files": [],
    "names found twice": [],
  }
  tensors: dict[str, FileTensor] = {}
  for file in files:
    if not file.exists():
      problems["missing files"].append(f"{file.name} (named by the index)")
      continue
    try:
      shard = _open_file(file)
    except (ValueError, OSError) as error:
      problems["unreadable files"].append(str(error))
      continue
    for name, tensor in shard.items():
      name = name_in_model(name)
      if name in tensors:
        problems["names found twice"].append(name)
      tensors[name] = tensor
  if not any(problems.values()):
    absent = sorted({name_in_model(name) for name in promised} - tensors.keys())
    problems["tensors that the index names but no file holds"] = absent
  if any(problems.values()):
    raise UnreadableWeights(f"The weights in {path} cannot be read", problems)
  return tensors


def name_in_model(name: str) -> str:
  """The name without the parts that PyTorch's wrappers add."""
  for wrapper in _WRAPPERS:
    name = name.replace(wrapper, "")
  return name.removeprefix("module.")


def _open_file(file: Path) -> dict[str, FileTensor]:
  safe_files.check_regular(file)
  if file.suffix in TORCH_SUFFIXES:
    return _open_torch(file)
  if container.is_gguf(file):
    from filax.convert.gguf import tensors  # It makes FileTensors, too.

    return tensors.open_gguf(file)
  return open_safetensors(file)


def _weight_files(path: Path) -> tuple[list[Path], set[str]]:
  """The files of a model, and the tensors listed in its index."""
  if path.is_file():
    return [path], set()
  if not path.is_dir():
    raise FileNotFoundError(f"There is no file or folder {path}.")
  for name in WHOLE:
    if not (path / name).exists():
      continue
    if not name.endswith(INDEX):
      return [path / name], set()
    file_of_tensor = _read_index(path / name)
    return _indexed_files(path, name, file_of_tensor), set(file_of_tensor)
  for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth"):
    if files := sorted(path.glob(pattern)):
      return [file for file in files if not file.name.startswith("training_args")], set()
  raise FileNotFoundError(
    f"{path} holds no weights: no *.safetensors, *.bin, *.pt or *.pth, and no index of them."
  )


def _indexed_files(
  folder: Path,
  index: str,
  file_of_tensor: dict[str, str],
) -> list[Path]:
  """The files of an index.

  Raises ConversionError for files outside of its folder.
  """
  files = []
  outside = []
  for name in sorted(set(file_of_tensor.values())):
    try:
      files.append(safe_files.inside(folder, name))
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: links in a circle.
      outside.append(str(error))
  if outside:
    raise ConversionError(f"The index {index} in {folder} is refused", {"files elsewhere": outside})
  return files


def _read_index(index: Path) -> dict[str, str]:
  """The file of every tensor.

  Raises UnreadableWeights if the index is not readable.
  """
  try:
    weight_map = safe_files.read_json(index)["weight_map"]
    return {str(name): str(file) for name, file in weight_map.items()}
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    problem = f"{index.name} has no readable weight_map{_reason(error)}"
    raise UnreadableWeights(
      f"The weights in {index.parent} cannot be read", {"unreadable files": [problem]}
    ) from None


def _reason(error: Exception) -> str:
  """The message of a MalformedFile in brackets.

  "" for other exceptions: Python's messages for malformed content do not help.
  """
  return f" ({error})" if isinstance(error, safe_files.MalformedFile) else ""


def read_header(file: Path) -> tuple[dict[str, Any], int]:
  """(header, offset of the data) of a safetensors file.

  Raises ValueError if it is cut short, or if its header contradicts itself.
  """
  safe_files.check_regular(file)
  _check_no_pointer(file)
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
    content = f.read(length)
  try:
    entries = safe_files.parse_json(content)
    end = _check_extents(entries)
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    raise ValueError(f"{file.name} has no readable safetensors header{_reason(error)}") from None
  if end + length + 8 > total:
    raise ValueError(
      f"{file.name} is cut short: its header promises {end + length + 8} bytes, it has {total}"
    )
  return entries, length + 8


def _check_extents(entries: dict[str, Any]) -> int:
  """The end of the last tensor.

  Raises ValueError if an extent is wrong or two tensors share bytes.
  """
  extents = []
  for name, entry in entries.items():
    if name != "__metadata__":
      start, stop = _extent(name, entry)
      extents.append((start, stop, name))
  _check_apart(extents)
  return max((stop for _, stop, _ in extents), default=0)


def _extent(name: str, entry: dict[str, Any]) -> tuple[int, int]:
  """First and last byte of a tensor.

  Raises ValueError unless its shape and dtype take that many bytes.
  """
  start, stop = entry["data_offsets"]
  shape = entry["shape"]
  dtype = DTYPES.get(entry["dtype"])
  are_counts = all(type(number) is int and number >= 0 for number in (start, stop, *shape))
  fits = are_counts and start <= stop
  if fits and dtype is not None:
    fits = math.prod(shape) * dtype.itemsize == stop - start
  if not fits:
    raise safe_files.MalformedFile(
      f"{name} is {tuple(shape)} {entry['dtype']} in {stop - start} bytes"
    )
  return start, stop


def _check_apart(extents: Sequence[tuple[int, int, str]]) -> None:
  """Raises ValueError if two tensors share bytes."""
  end = 0
  last_name = ""
  for start, stop, name in sorted(extents):
    if start < end and start < stop:
      raise safe_files.MalformedFile(f"{name} overlaps {last_name}")
    if stop > end:
      end = stop
      last_name = name


def open_safetensors(file: Path) -> dict[str, FileTensor]:
  """The tensors of one safetensors file."""
  entries, data_start = read_header(file)
  entries.pop("__metadata__", None)
  tensors = {}
  for name, entry in entries.items():
    shape = tuple(entry["shape"])
    dtype = DTYPES.get(entry["dtype"])
    offset = data_start + entry["data_offsets"][0]
    get = _mapped_reader(file, shape, dtype, offset)
    tensors[name] = FileTensor(name, shape, dtype, entry["dtype"], file, get)
  return tensors


def _mapped_reader(file: Path, shape: tuple[int, ...], dtype, offset: int):
  """A function from an index to a copy of those slices.

  The file is memory-mapped for each call.
  """

  def copied_slices(index: tuple[slice, ...]) -> np.ndarray:
    count = math.prod(shape)
    if not count:
      return np.zeros(shape, dtype)[index]
    mapped = np.memmap(file, np.uint8, "r", offset, (count * dtype.itemsize,))
    array = mapped.view(np.ndarray).view(dtype).reshape(shape)
    return np.array(array[index])

  return copied_slices


def _check_no_pointer(file: Path) -> None:
  """Raises ValueError for a pointer of Git LFS."""
  with file.open("rb") as content:
    if content.read(len(_POINTER)) == _POINTER:
      raise ValueError(f"{file.name} is a pointer of Git LFS, not the file: run `git lfs pull`")


def _open_torch(file: Path) -> dict[str, FileTensor]:
  """The tensors of a torch pickle, by torch's restricted unpickler."""
  _check_no_pointer(file)
  try:
    import torch
  except ImportError:
    raise ValueError(
      f"{file.name} is a torch file: install torch (pip install filax[convert]), or convert it to "
      f"safetensors first"
    ) from None
  try:
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
  except pickle.UnpicklingError:  # torch's own words advise to read the file without a check.
    raise ValueError(
      f"{file.name} cannot be read with weights_only=True: it is damaged, or holds more than "
      "tensors, which might run code; save its tensors as safetensors where it comes from"
    ) from None
  except Exception as error:  # torch raises many kinds; after any of them the file is unsafe.
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(f"{file.name} cannot be read with weights_only=True: {reason}") from None
  for key in ("state_dict", "model", "module"):
    if isinstance(state, dict) and isinstance(state.get(key), dict):
      state = state[key]
  if not isinstance(state, dict):
    raise ValueError(f"{file.name} holds a {type(state).__name__}, not a dict of tensors")
  tensors = {}
  for name, tensor in state.items():
    if isinstance(tensor, torch.Tensor):
      tensors[name] = _torch_tensor(name, tensor, file)
  return tensors


def _is_zip(file: Path) -> bool:
  with file.open("rb") as f:
    return f.read(4) == b"PK\x03\x04"


def _torch_tensor(name: str, tensor, file: Path) -> FileTensor:
  import torch

  codes = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
  stored = codes.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))

  def copied_slices(index: tuple[slice, ...]) -> np.ndarray:
    part = tensor[index].contiguous()
    if part.dtype == torch.bfloat16:  # NumPy has no bfloat16.
      return part.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return np.array(part.numpy())

  return FileTensor(name, tuple(tensor.shape), DTYPES.get(stored), stored, file, copied_slices)


def all_finite(x: np.ndarray) -> bool:
  """Whether every number is finite; takes little memory."""
  bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[x.dtype.itemsize]
  exponent = np.array(np.inf, x.dtype).view(bits)  # All ones: infinity or NaN.
  words = np.ascontiguousarray(x).reshape(-1).view(bits)
  step = BLOCK // x.dtype.itemsize
  for start in range(0, len(words), step):
    block = words[start : start + step]
    if np.any((block & exponent) == exponent):
      return False
  return True


def main_dtype(dtypes: Sequence[np.dtype]) -> np.dtype:
  """The most frequent dtype of the weights.

  A tie goes to the first by name.
  """
  names = [dtype.name for dtype in dtypes]
  return DTYPE_BY_NAME[max(sorted(set(names)), key=names.count)]


def array_sha256(x: np.ndarray) -> str:
  """sha256 of the bytes of an array in row-major order."""
  content = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
  return hashlib.sha256(content.data).hexdigest()
