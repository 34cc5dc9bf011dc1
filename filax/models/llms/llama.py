# SPDX-License-Identifier: Apache-2.0
"""Llama decoders: Llama 2 and 3, Vicuna, SmolLM2 (arXiv:2307.09288, arXiv:2407.21783).

As Qwen2 without biases. Llama 3.1 and later stretch the rotary frequencies for 131,072 positions.
Parameter names are those of the HF checkpoint.
"""

from filax.models import decoder_block
from filax.models.decoder import Decoder
from filax.models.decoder_block import DecoderBlock
from filax.ops import rope

DIMS = decoder_block.DIMS


class Llama(Decoder):
  """Llama: Decoder without biases.

  `stretch` = (factor, low frequency factor, high frequency factor, positions before) are the
  settings of the rope type "llama3".
  """

  block = DecoderBlock
  dims = DIMS

  stretch: tuple[float, float, float, int] | None = None

  def frequencies(self):
    if self.stretch is None:
      return super().frequencies()
    return rope.llama3_frequencies(self.head_dim, self.theta, *self.stretch), 1.0


_LLAMA3 = dict(kv_heads=8, vocab=128_256, theta=5e5, eps=1e-5, positions=131_072)
_VICUNA = dict(head_dim=128, vocab=32_000, theta=1e4, eps=1e-5, positions=4096)
VARIANTS = {
  "tiny": dict(width=32, depth=3, heads=4, kv_heads=2, head_dim=8, mlp=64, vocab=512, theta=1e4),
  "SmolLM2-135M": dict(
    width=576,
    depth=30,
    heads=9,
    kv_heads=3,
    head_dim=64,
    mlp=1536,
    vocab=49_152,
    tied=True,
    theta=1e5,
    eps=1e-5,
    positions=8192,
  ),
  "SmolLM2-360M": dict(
    width=960,
    depth=32,
    heads=15,
    kv_heads=5,
    head_dim=64,
    mlp=2560,
    vocab=49_152,
    tied=True,
    theta=1e5,
    eps=1e-5,
    positions=8192,
  ),
  "SmolLM2-1.7B": dict(
    width=2048,
    depth=24,
    heads=32,
    kv_heads=32,
    head_dim=64,
    mlp=8192,
    vocab=49_152,
    tied=True,
    theta=1.3e5,
    eps=1e-5,
    positions=8192,
  ),
  "3-8B": dict(width=4096, depth=32, heads=32, head_dim=128, mlp=14_336, **_LLAMA3)
  | dict(positions=8192),
  "3.1-8B": dict(
    width=4096,
    depth=32,
    heads=32,
    head_dim=128,
    mlp=14_336,
    stretch=(8.0, 1.0, 4.0, 8192),
    **_LLAMA3,
  ),
  "3.2-1B": dict(
    width=2048,
    depth=16,
    heads=32,
    head_dim=64,
    mlp=8192,
    stretch=(32.0, 1.0, 4.0, 8192),
    tied=True,
    **_LLAMA3,
  ),
  "3.2-3B": dict(
    width=3072,
    depth=28,
    heads=24,
    head_dim=128,
    mlp=8192,
    stretch=(32.0, 1.0, 4.0, 8192),
    tied=True,
    **_LLAMA3,
  ),
  "vicuna-7B": dict(width=4096, depth=32, heads=32, kv_heads=32, mlp=11_008, **_VICUNA),
  "vicuna-13B": dict(width=5120, depth=40, heads=40, kv_heads=40, mlp=13_824, **_VICUNA),
}

TABLE = decoder_block.TABLE  # Names in PyTorch checkpoints.

SPARE = decoder_block.SPARE

EXTRA = ()  # Tensors for other software that are not parameters: (name, axis, value).

Model = Llama
