# SPDX-License-Identifier: Apache-2.0
"""Temporal averaging: the mean of the frames of a group."""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.models.roles import Merger


class Mean(nn.Module, Merger):
  """The mean of a group's frames.

  [B G K N E] -> [B G N E], averaged in float32.
  """

  dtype: Any = "float32"

  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G N E"]:
    return x.mean(2, dtype=jnp.float32).astype(self.dtype)


Model = Mean
