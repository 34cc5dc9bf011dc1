# SPDX-License-Identifier: Apache-2.0
"""Attention pooling over the frames of a group.

The baseline of FiLA-Video's appendix C.1. The printed formula, a softmax over patches summed over
frames, does not normalise over frames. This implementation normalises over frames:
out[p] = sum_k softmax_k(<q[p], key_k[p]> / sqrt(E)) x_k[p], with the middle frame as the query.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.models.layers import Dense, LayerNorm, float_types
from filax.models.roles import Merger


class AttentionPool(nn.Module, Merger):
  """Per-token convex combination of a group's frames.

  [B G K N E] -> [B G N E]. `norm` puts a LayerNorm in front of both projections: raw features have
  a few large channels that may saturate the softmax.
  """

  norm: bool = False
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G N E"]:
    types = float_types(self)
    width = x.shape[-1]
    options = types | dict(use_bias=False, kernel_init=nn.initializers.xavier_uniform())
    h = LayerNorm(name="layer_norm", **types)(x) if self.norm else x
    middle = h[:, :, x.shape[2] // 2]
    q = Dense(width, name="q_proj", **options)(middle)
    k = Dense(width, name="k_proj", **options)(h)
    scores = jnp.einsum("BGNE,BGKNE->BGKN", q, k, preferred_element_type=jnp.float32)
    share = jax.nn.softmax(scores * width**-0.5, axis=2)
    weighted = share[..., None] * x.astype(jnp.float32)  # [B G K N E]
    return weighted.sum(2).astype(self.dtype)


DIMS = (
  (r"[qk]_proj/kernel$", "width -"),
  (r"layer_norm/(scale|bias)$", "-"),
)

VARIANTS = {"plain": dict(), "normalised": dict(norm=True)}

Model = AttentionPool
