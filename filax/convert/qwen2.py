# SPDX-License-Identifier: Apache-2.0
"""Qwen2 and Qwen2.5: names of Qwen2Model, with the head beside them."""

TABLE = (
  (r"embed_tokens/embedding", r"embed_tokens.weight", "V D -> V D"),
  (r"lm_head/kernel", r"lm_head.weight", "D V -> V D"),
  (r"norm/scale", r"norm.weight", "D -> D"),
  (r"layers/(\w+_layernorm)/scale", r"layers.*.\1.weight", "D -> D"),
  (r"layers/self_attn/([qkv]_proj)/kernel", r"layers.*.self_attn.\1.weight", "D H d -> (H d) D"),
  (r"layers/self_attn/([qkv]_proj)/bias", r"layers.*.self_attn.\1.bias", "H d -> (H d)"),
  (r"layers/self_attn/o_proj/kernel", r"layers.*.self_attn.o_proj.weight", "H d D -> D (H d)"),
  (r"layers/mlp/(\w+_proj)/kernel", r"layers.*.mlp.\1.weight", "i o -> o i"),
)
SPARE = (  # Tensors that some files hold and that are computed here.
  (r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq", "rotary frequencies are computed"),
)
EXTRA = ()  # Tensors that other software wants and that are no parameters: (name, axis, value).
