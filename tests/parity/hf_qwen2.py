# SPDX-License-Identifier: Apache-2.0
"""Random tiny Qwen2 models of transformers, and their weights in the layout of FiLax."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from filax.models.llms import qwen2

SIZES = dict(width=32, depth=3, heads=4, kv_heads=2, head_dim=8, mlp=48, vocab=97)


def pair(tied=False, yarn=None, seed=0, std=0.2, **sizes):
  """(transformers model, our model, our parameters) with norms and biases drawn at random."""
  sizes = SIZES | sizes
  rope = dict(rope_type="default", rope_theta=1e4)
  if yarn:
    rope = dict(
      rope_type="yarn",
      rope_theta=1e4,
      factor=yarn[0],
      original_max_position_embeddings=yarn[1],
      **dict(*yarn[2:]),
    )
  config = transformers.Qwen2Config(
    vocab_size=sizes["vocab"],
    hidden_size=sizes["width"],
    intermediate_size=sizes["mlp"],
    num_hidden_layers=sizes["depth"],
    num_attention_heads=sizes["heads"],
    num_key_value_heads=sizes["kv_heads"],
    head_dim=sizes["head_dim"],
    rms_norm_eps=1e-6,
    max_position_embeddings=1024,
    tie_word_embeddings=tied,
    rope_parameters=rope,
    attn_implementation="eager",
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
  )
  torch.manual_seed(seed)
  theirs = transformers.Qwen2ForCausalLM(config).float().eval()
  with torch.no_grad():
    for name, weight in theirs.named_parameters():
      weight.normal_(1.0 if "norm" in name else 0.0, std)
  ours = qwen2.Model(**sizes, tied=tied, theta=1e4, yarn=yarn, positions=1024)
  return theirs, ours, params_of(theirs.state_dict(), ours)


def params_of(state, model) -> dict:
  """A transformers state dict -> the parameter tree of filax.models.llms.qwen2."""
  state = {name: tensor.numpy() for name, tensor in state.items()}
  heads, kv_heads, d, width = model.heads, model.kv_heads, model.head_dim, model.width
  layers = {}
  for name, shape in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
    layers[f"self_attn/{name}_proj"] = dict(
      kernel=_stack(state, f"self_attn.{name}_proj.weight", (width, shape, d), turn=True),
      bias=_stack(state, f"self_attn.{name}_proj.bias", (shape, d)),
    )
  layers["self_attn/o_proj"] = dict(
    kernel=_stack(state, "self_attn.o_proj.weight", (heads, d, width), turn=True)
  )
  for name in ("gate", "up", "down"):
    layers[f"mlp/{name}_proj"] = dict(kernel=_stack(state, f"mlp.{name}_proj.weight", turn=True))
  for name in ("input_layernorm", "post_attention_layernorm"):
    layers[name] = dict(scale=_stack(state, f"{name}.weight"))
  params = dict(
    layers=_nested(layers),
    norm=dict(scale=state["model.norm.weight"]),
    embed_tokens=dict(embedding=_rows(state["model.embed_tokens.weight"], model.vocab_rows)),
  )
  if not model.tied:
    params["lm_head"] = dict(kernel=_rows(state["lm_head.weight"], model.vocab_rows).T)
  return jax.tree.map(jnp.asarray, params)


def _stack(state, suffix, shape=None, turn=False):
  found = []
  while (name := f"model.layers.{len(found)}.{suffix}") in state:
    weight = state[name].T if turn else state[name]
    found.append(weight.reshape(shape or weight.shape))
  return np.stack(found)


def _rows(table, rows):
  # Padding rows are large, so that a test notices if one of them is ever read.
  return np.concatenate([table, np.full((rows - len(table), table.shape[1]), 50, table.dtype)])


def _nested(flat):
  tree = {}
  for path, leaf in flat.items():
    *parents, last = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree
