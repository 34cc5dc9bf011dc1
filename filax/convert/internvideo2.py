# SPDX-License-Identifier: Apache-2.0
"""InternVideo2: names of VideoChat-Flash's encoder."""

from filax.convert.umt import BLOCKS

TABLE = (
  *BLOCKS,
  (r"(cls_token|pos_embed|img_pos_embed)", r"\1", "N E -> 1 N E"),
  (r"layers/(ls[12])/scale", r"blocks.*.\1.weight", "E -> E"),
  (r"layers/attn/([qk]_norm)/scale", r"blocks.*.attn.\1.weight", "E -> E"),
)
SPARE = (
  (r"blocks\.{depth}\..*", "the block after the feature layer"),
  (r"clip_projector\..*", "the pooling head"),
)
