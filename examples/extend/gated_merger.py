# SPDX-License-Identifier: Apache-2.0
"""A compressor: the frames of a group become one, each counted by a learned gate."""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp

from filax.models.layers import Dense, float_types
from filax.models.roles import Merger


class Gated(nn.Module, Merger):
  """The mean of a group's frames, weighted by a softmax over them.

  [B G K N E] -> [B G N E]. A frame's gate is a product of its mean token.
  """

  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x):
    frames = x.mean(3)  # [B G K E]
    gate = Dense(1, use_bias=False, name="gate", **float_types(self))(frames)
    weight = nn.softmax(gate.astype(jnp.float32), axis=2)  # [B G K 1], over the frames.
    merged = (x.astype(jnp.float32) * weight[..., None]).sum(2)
    return merged.astype(self.dtype)


DIMS = ((r"gate/kernel$", "- -"),)  # Path of a parameter -> its dimensions on a mesh.
