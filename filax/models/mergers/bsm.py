# SPDX-License-Identifier: Apache-2.0
"""Merges tokens by bipartite soft matching, the baseline of FiLA-Video's appendix C.2."""

from typing import Any

import jax
from jaxtyping import Array, Float

from filax.models.mergers import Merger
from filax.ops import bipartite


class BipartiteMerge(Merger):
  """[B G K N E] -> [B G N E]: K·N tokens merged into as many as one frame has, in time order.

  The result is no picture any more, so it cannot be pooled: config.model.merge_stage is "pool".
  """

  dtype: Any = "float32"
  stages = ("pool",)

  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G N E"]:
    batch, groups, frames, tokens, width = x.shape
    x = x.reshape(batch * groups, frames * tokens, width)
    x = jax.vmap(lambda group: bipartite.merge(group, tokens))(x)
    return x.reshape(batch, groups, tokens, width).astype(self.dtype)


Model = BipartiteMerge
