# SPDX-License-Identifier: Apache-2.0
"""UMT-L: names of VideoChat-Flash's encoder. [i/3] is the i-th third of the fused projection."""

_QKV = "E H d -> (H d) E"
BLOCKS = (  # Patches and blocks, which InternVideo2 calls the same.
  (r"patch_embed/patch_embedding/kernel", r"patch_embed.proj.weight", "h w c E -> E c 1 h w"),
  (r"patch_embed/patch_embedding/bias", r"patch_embed.proj.bias", "E -> E"),
  (r"layers/(norm[12])/scale", r"blocks.*.\1.weight", "E -> E"),
  (r"layers/attn/q_proj/kernel", r"blocks.*.attn.qkv.weight[0/3]", _QKV),
  (r"layers/attn/k_proj/kernel", r"blocks.*.attn.qkv.weight[1/3]", _QKV),
  (r"layers/attn/v_proj/kernel", r"blocks.*.attn.qkv.weight[2/3]", _QKV),
  (r"layers/attn/proj/kernel", r"blocks.*.attn.proj.weight", "H d E -> E (H d)"),
  (r"layers/attn/proj/bias", r"blocks.*.attn.proj.bias", "E -> E"),
  (r"layers/mlp/(fc[12])/kernel", r"blocks.*.mlp.\1.weight", "i o -> o i"),
  (r"layers/mlp/(fc[12])/bias", r"blocks.*.mlp.\1.bias", "o -> o"),
)
TABLE = (
  *BLOCKS,
  (r"vision_layernorm/scale", r"vision_layernorm.weight", "E -> E"),
  (r"vision_layernorm/bias", r"vision_layernorm.bias", "E -> E"),
  (r"layers/(norm[12])/bias", r"blocks.*.\1.bias", "E -> E"),
  (r"layers/attn/([qv])_proj/bias", r"blocks.*.attn.\1_bias", "H d -> (H d)"),
)
SPARE = (
  (r"blocks\.{depth}\..*", "the block after the feature layer"),
  (r"(img_)?pos_embed", "positions are computed"),
)
