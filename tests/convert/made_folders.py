# SPDX-License-Identifier: Apache-2.0
"""Tiny Qwen2 folders written with safetensors alone, for tests of files and commands."""

import json
import pathlib

import numpy as np
from safetensors import numpy as library

WIDTH, DEPTH, MLP, VOCAB = 16, 2, 24, 40
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


def state(seed=0, dtype=np.float32, vocab=VOCAB, width=WIDTH, mlp=MLP) -> dict[str, np.ndarray]:
  """The tensors of a Qwen2ForCausalLM."""
  rng = np.random.default_rng(seed)
  shapes = {
    "model.embed_tokens.weight": (vocab, width),
    "model.norm.weight": (width,),
    "lm_head.weight": (vocab, width),
  }
  for i in range(DEPTH):
    layer = f"model.layers.{i}."
    shapes |= {f"{layer}{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    for name, rows in (("q", width), ("k", width // 2), ("v", width // 2)):
      shapes[f"{layer}self_attn.{name}_proj.weight"] = (rows, width)
      shapes[f"{layer}self_attn.{name}_proj.bias"] = (rows,)
    shapes[f"{layer}self_attn.o_proj.weight"] = (width, width)
    shapes |= {f"{layer}mlp.{name}_proj.weight": (mlp, width) for name in ("gate", "up")}
    shapes[f"{layer}mlp.down_proj.weight"] = (width, mlp)
  return {name: rng.normal(0, 0.2, shape).astype(dtype) for name, shape in shapes.items()}


def write(folder, tensors=None, **config) -> pathlib.Path:
  """A folder with one file and a config.json."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  library.save_file(tensors or state(), folder / "model.safetensors", {"format": "pt"})
  (folder / "config.json").write_text(json.dumps(CONFIG | config))
  return folder
