# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video's fusion of frames by learned weights (Eq. 7-8).

One weight per frame slot, token and channel.
"""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.models.roles import Merger


class Weighted(nn.Module, Merger):
  """Weighted sum over a group's frames.

  [B G K N E] -> [B G N E], without bias or normalisation. The weight (K, N, E) starts at 1/K and is
  float32 for any `param_dtype`: at the paper's learning rate its steps are far below bfloat16's
  resolution near 1/3.
  """

  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G N E"]:
    frames = x.shape[2]
    init = nn.initializers.constant(1 / frames)
    weight = self.param("weight", init, x.shape[2:], jnp.float32)
    total = x[:, :, 0].astype(jnp.float32) * weight[0]
    for slot in range(1, frames):  # A sum over the axis is four times slower on a CPU.
      total = total + x[:, :, slot].astype(jnp.float32) * weight[slot]
    return total.astype(self.dtype)


DIMS = ((r"weight$", "- - -"),)

Model = Weighted
