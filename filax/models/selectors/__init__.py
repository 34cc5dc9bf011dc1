# SPDX-License-Identifier: Apache-2.0
"""Selectors put frames into groups of K (filax.models.roles.Selector)."""

import jax
from jaxtyping import Array, Bool, Float, Int

from filax.models.roles import Groups


def gather(
  tokens: Float[Array, "B T N E"],
  mask: Bool[Array, "B T"],
  index: Int[Array, "B G K"],
) -> Groups:
  """Gathers the groups at `index`.

  A row without a real frame has no real group.
  """
  take = jax.vmap(lambda frames, index: frames[index])
  grouped = take(tokens, index)
  has_frame = mask.any(-1)[:, None]  # [B 1]
  group_mask = has_frame.repeat(index.shape[1], axis=1)
  return Groups(grouped, index, group_mask)
