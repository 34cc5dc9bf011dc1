# SPDX-License-Identifier: Apache-2.0
"""Puts visual tokens into the text: one gather and a where; its gradient is a scatter-add."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def splice(
  text: Float[Array, "B L D"], table: Float[Array, "B M D"], visual_index: Int[Array, "B L"]
) -> Float[Array, "B L D"]:
  """Replaces the places whose visual_index is not negative by that row of the visual table."""
  if not table.shape[1]:
    return text
  rows = jnp.take_along_axis(table, jnp.maximum(visual_index, 0)[..., None], axis=1)
  return jnp.where((visual_index >= 0)[..., None], rows.astype(text.dtype), text)
