# SPDX-License-Identifier: Apache-2.0
"""InternVideo2: names of VideoChat-Flash's encoder. [i/3] is a third of the fused projection."""

from filax.convert.umt import QKV

TABLE = (
  (r"patch_embed/patch_embedding/kernel", r"patch_embed.proj.weight", "h w c E -> E c 1 h w"),
  (r"patch_embed/patch_embedding/bias", r"patch_embed.proj.bias", "E -> E"),
  (r"(cls_token|pos_embed|img_pos_embed)", r"\1", "N E -> 1 N E"),
  (r"layers/(norm[12]|ls[12])/scale", r"blocks.*.\1.weight", "E -> E"),
  (r"layers/attn/([qk]_norm)/scale", r"blocks.*.attn.\1.weight", "E -> E"),
  (r"layers/attn/q_proj/kernel", r"blocks.*.attn.qkv.weight[0/3]", QKV),
  (r"layers/attn/k_proj/kernel", r"blocks.*.attn.qkv.weight[1/3]", QKV),
  (r"layers/attn/v_proj/kernel", r"blocks.*.attn.qkv.weight[2/3]", QKV),
  (r"layers/attn/proj/kernel", r"blocks.*.attn.proj.weight", "H d E -> E (H d)"),
  (r"layers/attn/proj/bias", r"blocks.*.attn.proj.bias", "E -> E"),
  (r"layers/mlp/(fc[12])/kernel", r"blocks.*.mlp.\1.weight", "i o -> o i"),
  (r"layers/mlp/(fc[12])/bias", r"blocks.*.mlp.\1.bias", "o -> o"),
)
SPARE = (
  (r"blocks\.{depth}\..*", "the block after the feature layer"),
  (r"clip_projector\..*", "the pooling head"),
)
