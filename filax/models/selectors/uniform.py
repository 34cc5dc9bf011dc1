# SPDX-License-Identifier: Apache-2.0
"""Consecutive groups of frames.

With uniform sampling, this is the training setup of FiLA-Video.
"""

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from filax.models.roles import Groups, Selector


class Uniform(nn.Module, Selector):
  """Groups of consecutive frames.

  tokens [B T N E], mask [B T] -> G = T / size groups. A reshape: frames stay in place. A group is
  real if all its frames are; samples of a row are whole groups.
  """

  size: int = 3

  def groups(self, frames: int) -> int:
    """G for T = `frames`.

    Raises ValueError if the frames do not divide into groups.
    """
    if frames % self.size:
      raise ValueError(
        f"{frames} frames are not whole groups of {self.size}. Set config.data.sampling.frames to "
        f"a multiple of config.model.selector.size={self.size}."
      )
    return frames // self.size

  def __call__(
    self,
    tokens: Float[Array, "B T N E"],
    mask: Bool[Array, "B T"],
  ) -> Groups:
    batch, frames = mask.shape
    groups = self.groups(frames)
    shape = (batch, groups, self.size)
    index = jnp.arange(frames, dtype=jnp.int32)
    index = index.reshape(1, groups, self.size)
    return Groups(
      tokens=tokens.reshape(*shape, *tokens.shape[2:]),
      index=jnp.broadcast_to(index, shape),
      mask=mask.reshape(shape).all(-1),
    )


Model = Uniform
