# SPDX-License-Identifier: Apache-2.0
"""Qwen2 and Qwen2.5 decoders (arXiv:2407.10671).

Parameter names are those of the HF checkpoint.
"""

from filax.models import decoder_block
from filax.models.decoder import Decoder
from filax.models.decoder_block import CausalAttention, DecoderBlock


class Qwen2Attention(CausalAttention):
  """Attention with biases on queries, keys and values."""

  bias = True


class Qwen2Block(DecoderBlock):
  """A layer of Qwen2."""

  attention = Qwen2Attention


DIMS = (  # Path of a parameter -> its dimensions, in the words of filax.parallel.rules.
  *decoder_block.DIMS,
  (r"q_proj/bias$", "heads head_dim"),
  (r"[kv]_proj/bias$", "kv_heads head_dim"),
)


class Qwen2(Decoder):
  """Qwen2 and Qwen2.5: Decoder with biases on queries, keys and values."""

  block = Qwen2Block
  dims = DIMS


VARIANTS = {
  "tiny": dict(width=32, depth=3, heads=4, kv_heads=2, head_dim=8, mlp=64, vocab=512, tied=False),
  "toy": dict(
    width=96,
    depth=3,
    heads=4,
    kv_heads=2,
    head_dim=24,
    mlp=288,
    vocab=512,
    tied=True,
    theta=1e4,
    positions=1024,
  ),
  "0.5B": dict(
    width=896, depth=24, heads=14, kv_heads=2, head_dim=64, mlp=4864, vocab=151_936, tied=True
  ),
  "1.5B": dict(
    width=1536, depth=28, heads=12, kv_heads=2, head_dim=128, mlp=8960, vocab=151_936, tied=True
  ),
  "3B": dict(
    width=2048, depth=36, heads=16, kv_heads=2, head_dim=128, mlp=11_008, vocab=151_936, tied=True
  ),
  "7B": dict(width=3584, depth=28, heads=28, kv_heads=4, head_dim=128, mlp=18_944, vocab=152_064),
}

TABLE = (  # Names in PyTorch checkpoints.
  *decoder_block.TABLE,
  (r"layers/self_attn/([qkv]_proj)/bias", r"layers.*.self_attn.\1.bias", "H d -> (H d)"),
)

SPARE = decoder_block.SPARE

EXTRA = ()  # Tensors for other software that are not parameters: (name, axis, value).

Model = Qwen2
