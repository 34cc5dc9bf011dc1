# SPDX-License-Identifier: Apache-2.0
"""The sizes of a GGUF file as a config.json of HF."""

from pathlib import Path
from typing import Any

import numpy as np

from filax.convert.gguf.container import GgufFile
from filax.convert.gguf.tensors import ROPE_FACTORS
from filax.ops import rope

_LLAMA3 = (1.0, 4.0, 8192)  # Low and high frequency factors, and the positions before.


def gguf_config(path: Path) -> dict[str, Any]:
  """The config.json that HF's folder of the same model would have.

  Raises ValueError for settings that are not implemented.
  """
  file = GgufFile(path)
  if file.value(f"{file.architecture}.expert_count", 0):
    raise ValueError(f"{path.name} holds a mixture of experts, which is not implemented.")
  heads = file.size("attention.head_count")
  width = file.size("embedding_length")
  head_dim = file.size("attention.key_length", width // heads)
  theta = file.number("rope.freq_base", 1e4)
  config = dict(
    model_type=file.architecture,
    hidden_size=width,
    intermediate_size=file.size("feed_forward_length"),
    num_hidden_layers=file.size("block_count"),
    num_attention_heads=heads,
    num_key_value_heads=file.size("attention.head_count_kv", heads),
    head_dim=head_dim,
    vocab_size=_vocabulary_rows(file),
    max_position_embeddings=file.size("context_length"),
    rms_norm_eps=_shortest(file.number("attention.layer_norm_rms_epsilon", 1e-6)),
    rope_theta=theta,
    tie_word_embeddings=all(tensor.name != "output.weight" for tensor in file.tensors),
    hidden_act="silu",
  )
  scaling = _rope_scaling(file, head_dim, theta)
  if scaling is not None:
    config["rope_scaling"] = scaling
  return config


def _vocabulary_rows(file: GgufFile) -> int:
  for tensor in file.tensors:
    if tensor.name == "token_embd.weight":
      return int(tensor.shape[1])
  raise ValueError(f"{file.path.name} has no tensor token_embd.weight.")


def _shortest(value: float) -> float:
  """The number that was rounded to float32: 1e-5 for 9.999999747e-06."""
  return float(str(np.float32(value)))


def _rope_scaling(file: GgufFile, head_dim: int, theta: float) -> dict[str, Any] | None:
  """The rope_scaling of HF; None for plain rotary positions.

  Raises ValueError for a kind that is not implemented.
  """
  kind = file.value(f"{file.architecture}.rope.scaling.type", "none")
  if kind == "yarn":
    return dict(
      rope_type="yarn",
      factor=file.number("rope.scaling.factor", 1.0),
      original_max_position_embeddings=file.size("rope.scaling.original_context_length"),
    )
  if kind != "none":
    raise ValueError(
      f"{file.path.name} scales rotary positions by {kind!r}, which is not implemented."
    )
  for tensor in file.tensors:
    if tensor.name == ROPE_FACTORS:
      return _llama3_scaling(file, np.asarray(tensor.data, np.float32), head_dim, theta)
  return None


def _llama3_scaling(
  file: GgufFile, factors: np.ndarray, head_dim: int, theta: float
) -> dict[str, Any]:
  """The settings that give the file's factors of rotary frequencies."""
  factor = float(factors.max())
  plain, _ = rope.frequencies(head_dim, theta)
  stretched = rope.llama3_frequencies(head_dim, theta, factor, *_LLAMA3)
  if factors.shape != plain.shape or not np.allclose(plain / stretched, factors, rtol=1e-4):
    raise ValueError(
      f"{file.path.name} has factors of rotary frequencies that are not those of Llama 3."
    )
  low, high, trained = _LLAMA3
  return dict(
    rope_type="llama3",
    factor=factor,
    low_freq_factor=low,
    high_freq_factor=high,
    original_max_position_embeddings=trained,
  )
