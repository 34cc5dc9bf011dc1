# SPDX-License-Identifier: Apache-2.0
"""SigLIP's vision tower: names of SiglipVisionTransformer."""

TABLE = (
  (
    r"embeddings/patch_embedding/kernel",
    r"embeddings.patch_embedding.weight",
    "h w c E -> E c h w",
  ),
  (r"embeddings/patch_embedding/bias", r"embeddings.patch_embedding.bias", "E -> E"),
  (r"embeddings/position_embedding", r"embeddings.position_embedding.weight", "N E -> N E"),
  (r"layers/(layer_norm[12])/scale", r"encoder.layers.*.\1.weight", "E -> E"),
  (r"layers/(layer_norm[12])/bias", r"encoder.layers.*.\1.bias", "E -> E"),
  (
    r"layers/self_attn/([qkv]_proj)/kernel",
    r"encoder.layers.*.self_attn.\1.weight",
    "E H d -> (H d) E",
  ),
  (r"layers/self_attn/([qkv]_proj)/bias", r"encoder.layers.*.self_attn.\1.bias", "H d -> (H d)"),
  (
    r"layers/self_attn/out_proj/kernel",
    r"encoder.layers.*.self_attn.out_proj.weight",
    "H d E -> E (H d)",
  ),
  (r"layers/self_attn/out_proj/bias", r"encoder.layers.*.self_attn.out_proj.bias", "E -> E"),
  (r"layers/mlp/(fc[12])/kernel", r"encoder.layers.*.mlp.\1.weight", "i o -> o i"),
  (r"layers/mlp/(fc[12])/bias", r"encoder.layers.*.mlp.\1.bias", "o -> o"),
)
SPARE = (
  (r"encoder\.layers\.{depth}\..*", "the block after the feature layer"),
  (r"head\..*", "the pooling head"),
  (r"embeddings\.position_ids", "a counter"),
  (r"post_layernorm\.(weight|bias)", "applied after the feature layer"),
)
EXTRA = (("post_layernorm.weight", "E", 1.0), ("post_layernorm.bias", "E", 0.0))
