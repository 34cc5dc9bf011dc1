# SPDX-License-Identifier: Apache-2.0
"""Frame selection by bipartite soft matching.

The baseline of FiLA-Video's appendix B.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from filax.models.roles import Groups, Selector
from filax.models.selectors import gather
from filax.ops import bipartite
from filax.ops.uniform import evenly
from filax.parallel.rules import constrain


class BipartiteMatching(nn.Module, Selector):
  """Selects similar frames by bipartite matching.

  tokens [B T N E], mask [B T] -> G = scenes groups of K = size frames; a row holds one video.

  The video is cut into `scenes` even segments. Each segment contributes one frame and its size - 1
  companions: the frame whose companions are the most similar to it. A video is not matched if its
  segments have fewer than 2 (size - 1) real frames, or if it has fewer than scenes · size frames.
  Its frames are then spread evenly over the groups.
  """

  scenes: int = 32
  size: int = 3
  needs_single = True
  chooses_scenes = True

  def groups(self, frames: int) -> int:
    """G.

    Raises ValueError if the segments of `frames` frames are too short to match.
    """
    needed = self.scenes * self.shortest
    if frames < needed:
      raise ValueError(
        f"Selector bsm needs segments of {self.shortest} frames for groups of {self.size}, but "
        f"{frames} frames make {self.scenes} segments of {frames / self.scenes:.3g}. Set "
        f"config.infer.sampling.frames to {needed} or more, or fewer scenes in its selector."
      )
    return self.scenes

  @property
  def shortest(self) -> int:
    """The minimum number of frames in a segment."""
    return max(2 * (self.size - 1), self.size)

  def __call__(
    self,
    tokens: Float[Array, "B T N E"],
    mask: Bool[Array, "B T"],
  ) -> Groups:
    self.groups(tokens.shape[1])
    means = jax.lax.stop_gradient(tokens).mean(2, dtype=jnp.float32)
    means = constrain(means, "batch - -")
    index = jax.vmap(self.pick)(means, mask)
    return gather(tokens, mask, index)

  def pick(
    self,
    x: Float[Array, "T E"],
    mask: Bool[Array, "T"],
  ) -> Int[Array, "G K"]:
    """Slots of all groups' frames in one video, from its frame means."""
    matched = bipartite.select_frames(x, mask, self.scenes, self.size)
    is_short = mask.sum() < self.scenes * self.shortest
    spread_evenly = evenly(mask, self.scenes * self.size).reshape(matched.shape)
    return jnp.where(is_short, spread_evenly, matched)


Model = BipartiteMatching
