# SPDX-License-Identifier: Apache-2.0
"""Selectors put frames into groups of K: [B T N E] -> `Groups`. They own no parameters.

A selector has `size` (K), `needs_single` (True if a row may hold one sample only), `groups(T)` (the
static number of groups G) and `__call__(tokens [B T N E], mask [B T])`.
"""

from typing import Any

from flax import struct
import jax
from jaxtyping import Array, Bool, Float, Int


@struct.dataclass
class Groups:
  """Groups of frames, in time order, and the frames of each in time order."""

  tokens: Any  # [B G K N E]
  index: Any  # int32 [B G K]: the slot of each frame among the T of its row.
  mask: Any  # bool [B G]: False for groups of padding.


def gather(
  tokens: Float[Array, "B T N E"], mask: Bool[Array, "B T"], index: Int[Array, "B G K"]
) -> Groups:
  """The groups that `index` names. A row without a real frame has no real group."""
  return Groups(
    tokens=jax.vmap(lambda x, i: x[i])(tokens, index),
    index=index,
    mask=mask.any(-1)[:, None].repeat(index.shape[1], axis=1),
  )
