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
  """The representative and preceding frames of every scene.

  Returns int32 [G K], ascending in time, K = `size`; the representative is last. x: features of the
  T frames of one video, mask: False for padding, index: representatives mu in time order.
  Candidates of scene i are the real frames j with mu_{i-1} < j < mu_i (mu_0 = -1); the size - 1
  most (dis)similar by cosine are added. The representative fills up missing frames. A tie goes to
  the earlier frame.

    index = [2 4], size = 3: candidates of frame 2 are 0 and 1, of frame 4 only 3
    -> [[0 1 2]
        [3 4 4]]
  """
  frames = mask.shape[0]
  place = jnp.arange(frames, dtype=jnp.int32)
  index = index.astype(jnp.int32)
  start = jnp.full(1, -1, jnp.int32)
  before = jnp.concatenate([start, index[:-1]])
  is_after = place > before[:, None]  # [G T]
  is_before = place < index[:, None]
  candidate = is_after & is_before & mask
  unit = unit_vectors(x)
  sign = order_sign(history)
  cosine = jnp.einsum("GD,TD->GT", unit[index], unit, precision=lax.Precision.HIGHEST)
  score = jnp.where(candidate, sign * cosine, -jnp.inf)
  score, joined = lax.top_k(score, min(size - 1, frames))  # [G size-1]
  joined = jnp.where(jnp.isfinite(score), joined, index[:, None])
  rest = jnp.repeat(index[:, None], size - joined.shape[1], axis=1)
  frames_of_scene = jnp.concatenate([joined, rest], axis=1)
  return jnp.sort(frames_of_scene, axis=1)


def unit_vectors(x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
  """x / |x| in float32; a zero vector stays zero."""
  x = x.astype(jnp.float32)
  largest = jnp.abs(x).max(-1, keepdims=True)
  x = x / jnp.maximum(largest, jnp.finfo(jnp.float32).tiny)
  squares = jnp.square(x).sum(-1, keepdims=True)
  return x * lax.rsqrt(jnp.maximum(squares, 1.0))


def order_sign(history: str) -> float:
  """The sign of similarity in a ranking.

  1 ranks the most similar first, -1 the least similar.
  """
  if history not in ORDERS:
    raise ValueError(
      f"Selector kmeans knows no history {history!r}. Set history in config.infer.selector (or "
      f"config.model.selector) to one of {', '.join(ORDERS)}."
    )
  return ORDERS[history]
