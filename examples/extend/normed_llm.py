# SPDX-License-Identifier: Apache-2.0
"""A language model: Qwen2 whose queries and keys are normalised, as in Qwen3."""

from filax.models.decoder import Decoder
from filax.models.decoder_block import DecoderBlock
from filax.models.layers import RMSNorm, float_types
from filax.models.llms import qwen2


class NormedAttention(qwen2.Qwen2Attention):
  """Attention with biases, and an RMSNorm over each query and key."""

  def normalised(self, q, k):
    types = float_types(self)
    q = RMSNorm(self.eps, name="q_norm", **types)(q)
    k = RMSNorm(self.eps, name="k_norm", **types)(k)
    return q, k


class NormedBlock(DecoderBlock):
  """A layer of Normed."""

  attention = NormedAttention


DIMS = qwen2.DIMS  # Path of a parameter -> its dimensions; its row of norms holds for the new ones.


class Normed(Decoder):
  """The decoder: embeddings, cache, visual dropout and head come from `Decoder`."""

  block = NormedBlock
  dims = DIMS


VARIANTS = {"tiny": qwen2.VARIANTS["tiny"], "7B": qwen2.VARIANTS["7B"]}
