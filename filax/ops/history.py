# SPDX-License-Identifier: Apache-2.0
"""Adds preceding frames to a scene's representative (FiLA-Video, Eq. 5-6)."""

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

ORDERS = {"similar": 1.0, "dissimilar": -1.0}  # Sign of the cosine by which frames are ranked.


def supplement(
  x: Float[Array, "T D"],
  mask: Bool[Array, "T"],
  index: Int[Array, "G"],
  size: int,
  history: str = "similar",
) -> Int[Array, "G K"]:
  """The representative and some preceding frames of every scene.

  x: features of the T frames of one video. mask: False for padding. index: the representatives mu
  of the scenes, in time order. Returns the frames of every scene, int32 [G K], ascending in time,
  with K = `size`; the representative is the last of them.

  The candidates of scene i are the real frames j with mu_{i-1} < j < mu_i (mu_0 = -1). The size - 1
  candidates that are most similar (or least similar) to the representative by cosine are added. A
  tie goes to the earlier frame. If there are too few candidates, the representative is repeated.

    index = [2 4], size = 3: candidates of frame 2 are 0 and 1, of frame 4 only 3
    -> [[0 1 2]
        [3 4 4]]
  """
  frames = mask.shape[0]
  place = jnp.arange(frames, dtype=jnp.int32)
  index = index.astype(jnp.int32)
  start = jnp.full(1, -1, jnp.int32)
  previous = jnp.concatenate([start, index[:-1]])  # The representative of the scene before.
  is_after = place > previous[:, None]  # [G T]
  is_before = place < index[:, None]
  candidate = is_after & is_before & mask
  unit = unit_vectors(x)
  sign = order_sign(history)
  cosine = jnp.einsum("GD,TD->GT", unit[index], unit, precision=lax.Precision.HIGHEST)
  score = jnp.where(candidate, sign * cosine, -jnp.inf)
  score, added = lax.top_k(score, min(size - 1, frames))  # [G size-1]
  added = jnp.where(jnp.isfinite(score), added, index[:, None])
  representative = jnp.repeat(index[:, None], size - added.shape[1], axis=1)
  frames_of_scene = jnp.concatenate([added, representative], axis=1)
  return jnp.sort(frames_of_scene, axis=1)


def unit_vectors(x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
  """x / |x| in float32; a zero vector stays zero."""
  x = x.astype(jnp.float32)
  largest = jnp.abs(x).max(-1, keepdims=True)
  x = x / jnp.maximum(largest, jnp.finfo(jnp.float32).tiny)
  squares = jnp.square(x).sum(-1, keepdims=True)
  return x * lax.rsqrt(jnp.maximum(squares, 1.0))


def order_sign(history: str) -> float:
  """The factor of similarities in a ranking.

  With 1 the most similar frames come first, with -1 the least similar.
  """
  if history not in ORDERS:
    raise ValueError(
      f"Selector kmeans knows no history {history!r}. Set history in config.infer.selector (or "
      f"config.model.selector) to one of {', '.join(ORDERS)}."
    )
  return ORDERS[history]
