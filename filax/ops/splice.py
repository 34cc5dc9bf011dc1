# SPDX-License-Identifier: Apache-2.0
"""Puts visual tokens into the text: one gather and a where; its gradient is a scatter-add."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def splice(
  text: Float[Array, "B L D"],
  table: Float[Array, "B M D"],
  visual_index: Int[Array, "B L"],
) -> Float[Array, "B L D"]:
  """Replaces the places whose visual_index is not negative by that row of the visual table.

  text = [a b c d], table = [x y], visual_index = [-1 0 1 -1]  ->  [a x y d]
  """
  if not table.shape[1]:
    return text
  row = jnp.maximum(visual_index, 0)[..., None]
  visual = jnp.take_along_axis(table, row, axis=1)
  is_visual = (visual_index >= 0)[..., None]
  return jnp.where(is_visual, visual.astype(text.dtype), text)
