# SPDX-License-Identifier: Apache-2.0
"""Puts visual tokens into the text.

One gather and a where; the gradient is a scatter-add.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def splice(
  text: Float[Array, "B L D"],
  table: Float[Array, "B M D"],
  visual_index: Int[Array, "B L"],
) -> Float[Array, "B L D"]:
  """Replaces the embeddings of visual places by rows of the visual table.

  A place with a non-negative visual_index takes that row of the table.

  text = [a b c d], table = [x y], visual_index = [-1 0 1 -1]  ->  [a x y d]
  """
  if not table.shape[1]:
    return text
  row = jnp.maximum(visual_index, 0)[..., None]
  visual = jnp.take_along_axis(table, row, axis=1)
  is_visual = (visual_index >= 0)[..., None]
  return jnp.where(is_visual, visual.astype(text.dtype), text)
