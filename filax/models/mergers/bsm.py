# SPDX-License-Identifier: Apache-2.0
"""Merges tokens by bipartite soft matching, the baseline of FiLA-Video's appendix C.2."""

from typing import Any

from flax import linen as nn
import jax
from jaxtyping import Array, Float

from filax.models.roles import Merger
from filax.ops import bipartite


class BipartiteMerge(nn.Module, Merger):
  """Bipartite merging of a group's tokens.

  [B G K N E] -> [B G N E]: K·N tokens are merged into N, in time order. The result is not a grid of
  pixels, so it cannot be pooled: config.model.merge_stage is "pool".
  """

  dtype: Any = "float32"
  stages = ("pool",)

  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G N E"]:
    batch, groups, frames, tokens, width = x.shape
    x = x.reshape(batch * groups, frames * tokens, width)
    merge_groups = jax.vmap(lambda group: bipartite.merge_tokens(group, tokens))
    return merge_groups(x).reshape(batch, groups, tokens, width).astype(self.dtype)


Model = BipartiteMerge
