# SPDX-License-Identifier: Apache-2.0
"""Qwen3 decoders, the dense ones (arXiv:2505.09388).

As Qwen2, but queries and keys pass an RMSNorm over each head before the rotation, and no layer has
a bias. A head has 128 channels in every size. Parameter names are those of the HF checkpoint.
"""

from filax.models import decoder_block
from filax.models.decoder import Decoder
from filax.models.decoder_block import CausalAttention, DecoderBlock
from filax.models.layers import RMSNorm, float_types


class Qwen3Attention(CausalAttention):
  """Attention with an RMSNorm over each query and key."""

  eps: float = 1e-6

  def normalised(self, q, k):
    types = float_types(self)
    q = RMSNorm(self.eps, name="q_norm", **types)(q)
    k = RMSNorm(self.eps, name="k_norm", **types)(k)
    return q, k


class Qwen3Block(DecoderBlock):
  """A layer of Qwen3."""

  attention = Qwen3Attention


DIMS = decoder_block.DIMS  # The rows of norms hold for those of the heads.


class Qwen3(Decoder):
  """Qwen3: Decoder with norms on queries and keys."""

  block = Qwen3Block
  dims = DIMS


VARIANTS = {
  "tiny": dict(width=32, depth=3, heads=4, kv_heads=2, head_dim=16, mlp=64, vocab=512),
  "0.6B": dict(
    width=1024,
    depth=28,
    heads=16,
    kv_heads=8,
    head_dim=128,
    mlp=3072,
    vocab=151_936,
    tied=True,
    positions=40_960,
  ),
  "1.7B": dict(
    width=2048,
    depth=28,
    heads=16,
    kv_heads=8,
    head_dim=128,
    mlp=6144,
    vocab=151_936,
    tied=True,
    positions=40_960,
  ),
  "4B": dict(
    width=2560,
    depth=36,
    heads=32,
    kv_heads=8,
    head_dim=128,
    mlp=9728,
    vocab=151_936,
    tied=True,
    positions=40_960,
  ),
  "8B": dict(
    width=4096,
    depth=36,
    heads=32,
    kv_heads=8,
    head_dim=128,
    mlp=12_288,
    vocab=151_936,
    positions=40_960,
  ),
}

TABLE = (  # Names in PyTorch checkpoints.
  *decoder_block.TABLE,
  (r"layers/self_attn/([qk]_norm)/scale", r"layers.*.self_attn.\1.weight", "d -> d"),
)

SPARE = decoder_block.SPARE

EXTRA = ()  # Tensors for other software that are not parameters: (name, axis, value).

Model = Qwen3
