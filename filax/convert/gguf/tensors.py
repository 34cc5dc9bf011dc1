# SPDX-License-Identifier: Apache-2.0
"""The tensors of a GGUF file under HF's names, dequantised as they are read."""

from collections.abc import Callable
from pathlib import Path
import re
from typing import Any

import numpy as np

from filax.convert import ConversionError
from filax.convert.gguf.container import GgufFile
from filax.convert.torch_files import FileTensor

_TOP = {
  "token_embd.weight": "model.embed_tokens.weight",
  "output_norm.weight": "model.norm.weight",
  "output.weight": "lm_head.weight",
}
_IN_LAYER = {
  "attn_norm": "input_layernorm",
  "ffn_norm": "post_attention_layernorm",
  "attn_q": "self_attn.q_proj",
  "attn_k": "self_attn.k_proj",
  "attn_v": "self_attn.v_proj",
  "attn_output": "self_attn.o_proj",
  "attn_q_norm": "self_attn.q_norm",
  "attn_k_norm": "self_attn.k_norm",
  "ffn_gate": "mlp.gate_proj",
  "ffn_up": "mlp.up_proj",
  "ffn_down": "mlp.down_proj",
}
ROPE_FACTORS = "rope_freqs.weight"  # Part of the settings, not of the weights.
_STORED = {"F32": "F32", "F16": "F16", "F64": "F64"}


def open_gguf(path: Path) -> dict[str, FileTensor]:
  """The tensors by HF's name.

  Raises ConversionError listing the tensors of an unknown name or kind.
  """
  file = GgufFile(path)
  problems: dict[str, list[str]] = {"unknown names": [], "unknown kinds of quantisation": []}
  tensors = {}
  for tensor in file.tensors:
    if tensor.name == ROPE_FACTORS:
      continue
    name = _hf_name(tensor.name)
    if name is None:
      problems["unknown names"].append(tensor.name)
    elif not _can_dequantise(tensor):
      problems["unknown kinds of quantisation"].append(f"{tensor.name} ({tensor.tensor_type.name})")
    else:
      tensors[name] = _file_tensor(file, name, tensor)
  if any(problems.values()):
    raise ConversionError(f"The weights in {path} cannot be read", problems)
  return tensors


def _hf_name(name: str) -> str | None:
  """HF's name of a tensor; None for an unknown one."""
  if name in _TOP:
    return _TOP[name]
  match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
  if match is None or match[2] not in _IN_LAYER:
    return None
  return f"model.layers.{match[1]}.{_IN_LAYER[match[2]]}.{match[3]}"


def _can_dequantise(tensor: Any) -> bool:
  """Whether the library dequantises this kind; tries the first row."""
  try:
    _dequantised(tensor, np.arange(1))
  except NotImplementedError:
    return False
  return True


def _file_tensor(file: GgufFile, name: str, tensor: Any) -> FileTensor:
  shape = tuple(int(size) for size in reversed(tensor.shape))
  kind = tensor.tensor_type.name
  dtype = np.dtype(np.float16) if kind == "F16" else np.dtype(np.float32)
  order = _row_order(file, name, shape[0])

  def read_slices(index: tuple[slice, ...]) -> np.ndarray:
    rows = order(np.arange(shape[0])[index[0]])
    content = _dequantised(tensor, rows).reshape(len(rows), *shape[1:])
    return np.ascontiguousarray(content[(slice(None), *index[1:])].astype(dtype))

  return FileTensor(name, shape, dtype, _STORED.get(kind, kind), file.path, read_slices)


def _dequantised(tensor: Any, rows: np.ndarray) -> np.ndarray:
  """Some rows of a tensor as float32; float16 stays."""
  from gguf.quants import dequantize

  if not rows.size:
    return np.zeros(0, np.float32)
  return dequantize(np.asarray(tensor.data[rows]), tensor.tensor_type)


def _row_order(file: GgufFile, name: str, rows: int) -> Callable[[np.ndarray], np.ndarray]:
  """The rows of the file that hold given rows of HF's tensor.

  In files of Llama the two halves of each query and key head are interleaved, because llama.cpp
  rotates neighbouring channels there.
  """
  is_query = ".q_proj." in name
  is_key = ".k_proj." in name
  if file.architecture != "llama" or not (is_query or is_key):
    return lambda wanted: wanted
  heads = file.size("attention.head_count")
  if is_key:
    heads = file.size("attention.head_count_kv", heads)
  interleaved = np.arange(rows).reshape(heads, -1, 2)
  halves = interleaved.swapaxes(1, 2).reshape(-1)
  return halves.__getitem__
