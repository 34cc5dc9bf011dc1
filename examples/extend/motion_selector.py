# SPDX-License-Identifier: Apache-2.0
"""A selector: the frames that differ most from the frame before them."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from filax.models.roles import Selector
from filax.models.selectors import gather


class MostMotion(nn.Module, Selector):
  """Groups of the frames with the most motion, in time order.

  tokens [B T N E], mask [B T] -> G = scenes groups of K = size frames. The motion of a frame is the
  distance of its mean token from that of the frame before.
  """

  scenes: int = 32
  size: int = 3
  needs_single = True  # A packed row holds several videos; this looks at one.
  chooses_scenes = True  # The field `scenes` is the number of groups.

  def groups(self, frames):
    needed = self.scenes * self.size
    if frames < needed:
      raise ValueError(
        f"MostMotion needs {needed} frames, not {frames}. Set config.infer.sampling.frames to "
        f"{needed} or more."
      )
    return self.scenes

  def __call__(self, tokens, mask):
    groups = self.groups(tokens.shape[1])
    means = jax.lax.stop_gradient(tokens).mean(2, dtype=jnp.float32)  # [B T E]
    motion = jnp.linalg.norm(jnp.diff(means, axis=1, prepend=means[:, :1]), axis=-1)
    motion = jnp.where(mask, motion, -1.0)  # Frames of padding come last.
    _, index = jax.lax.top_k(motion, groups * self.size)
    last = jnp.maximum(mask.sum(-1, keepdims=True) - 1, 0)
    index = jnp.minimum(jnp.sort(index), last)  # A short video repeats its last frame.
    index = index.astype(jnp.int32).reshape(-1, groups, self.size)
    return gather(tokens, mask, index)
