# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video's scene selection (Eq. 1-6).

Each scene has a representative, which K-Means selects, and frames before it.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from filax.models.roles import Groups, Selector
from filax.models.selectors import gather
from filax.ops import history, kmeans
from filax.ops.uniform import evenly
from filax.parallel.rules import constrain


class KMeans(nn.Module, Selector):
  """Selects scenes by K-Means.

  tokens [B T N E], mask [B T] -> G = scenes groups of K = size frames; one video a row. A video
  with fewer than scenes · size real frames is not clustered: its frames are spread evenly over the
  groups, some repeated. No gradient flows through the choice.
  """

  scenes: int = 32
  size: int = 3
  history: str = "similar"  # similar | dissimilar: which frames before a representative join it.
  seeds: str = "farthest"  # farthest | random | kmeans++
  steps: int = 50
  seed: int = 0  # For the random seeds of K-Means.
  needs_single = True
  chooses_scenes = True

  @property
  def representative(self) -> int:
    """The place of a scene's representative: last in time."""
    return self.size - 1

  def groups(self, frames: int) -> int:
    """G, for any number of frames."""
    del frames
    return self.scenes

  def __call__(
    self,
    tokens: Float[Array, "B T N E"],
    mask: Bool[Array, "B T"],
  ) -> Groups:
    if self.is_initializing():  # No parameters: nothing needs to be traced.
      index = jnp.zeros((*mask.shape[:1], self.scenes, self.size), jnp.int32)
      return gather(tokens, mask, index)
    means = jax.lax.stop_gradient(tokens).mean(2, dtype=jnp.float32)  # Eq. 1
    means = constrain(means, "batch - -")
    if len(means) == 1:  # Of a single video, no round computes what it does not need.
      index = self.pick(means[0], mask[0])[None]
    else:
      index = jax.vmap(self.pick)(means, mask)
    return gather(tokens, mask, index)

  def pick(
    self,
    x: Float[Array, "T E"],
    mask: Bool[Array, "T"],
  ) -> Int[Array, "G K"]:
    """Slots of all scenes' frames in one video, from its frame means."""
    key = jax.random.key(self.seed)
    representatives = kmeans.scene_frames(
      x, mask, self.scenes, seeds=self.seeds, steps=self.steps, key=key
    )
    clustered = history.supplement(x, mask, representatives, self.size, self.history)
    is_short = mask.sum() < self.scenes * self.size
    spread_evenly = evenly(mask, self.scenes * self.size).reshape(clustered.shape)
    return jnp.where(is_short, spread_evenly, clustered)


Model = KMeans
