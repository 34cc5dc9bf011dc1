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
  """The groups that `index` names. A row without a real frame has no real group."""
  frames_of_row = jax.vmap(lambda x, i: x[i])
  return Groups(
    tokens=frames_of_row(tokens, index),
    index=index,
    mask=mask.any(-1)[:, None].repeat(index.shape[1], axis=1),
  )
