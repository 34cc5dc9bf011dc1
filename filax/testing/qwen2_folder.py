# SPDX-License-Identifier: Apache-2.0
"""Random tiny Qwen2 folders in the form of transformers, written with safetensors alone."""

import json
import os
import pathlib
from typing import Any

import numpy as np
from safetensors import numpy as safetensors_numpy

WIDTH = 16
DEPTH = 2
MLP = 24
VOCAB = 40
CONFIG = dict(
  model_type="qwen2",
  hidden_size=WIDTH,
  intermediate_size=MLP,
  num_hidden_layers=DEPTH,
  num_attention_heads=4,
  num_key_value_heads=2,
  vocab_size=VOCAB,
  rope_theta=1e6,
  rms_norm_eps=1e-6,
  max_position_embeddings=64,
  tie_word_embeddings=False,
)


def qwen2_tensors(
  seed: int = 0,
  dtype: Any = np.float32,
  vocab: int = VOCAB,
  width: int = WIDTH,
  mlp: int = MLP,
) -> dict[str, np.ndarray]:
  """The tensors of a Qwen2ForCausalLM."""
  shapes: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (vocab, width),
    "model.norm.weight": (width,),
    "lm_head.weight": (vocab, width),
  }
  for i in range(DEPTH):
    layer = f"model.layers.{i}"
    shapes[f"{layer}.input_layernorm.weight"] = (width,)
    shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
    for name, rows in (("q", width), ("k", width // 2), ("v", width // 2)):
      shapes[f"{layer}.self_attn.{name}_proj.weight"] = (rows, width)
      shapes[f"{layer}.self_attn.{name}_proj.bias"] = (rows,)
    shapes[f"{layer}.self_attn.o_proj.weight"] = (width, width)
    shapes[f"{layer}.mlp.gate_proj.weight"] = (mlp, width)
    shapes[f"{layer}.mlp.up_proj.weight"] = (mlp, width)
    shapes[f"{layer}.mlp.down_proj.weight"] = (width, mlp)
  rng = np.random.default_rng(seed)
  return {name: rng.normal(0, 0.2, shape).astype(dtype) for name, shape in shapes.items()}


def write_qwen2_folder(
  folder: str | os.PathLike, tensors: dict[str, np.ndarray] | None = None, **config: Any
) -> pathlib.Path:
  """Writes one file of tensors and a config.json."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / "model.safetensors"
  safetensors_numpy.save_file(tensors or qwen2_tensors(), path, {"format": "pt"})
  (folder / "config.json").write_text(json.dumps(CONFIG | config))
  return folder
