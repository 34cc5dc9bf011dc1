# SPDX-License-Identifier: Apache-2.0
"""Completes a scene with frames that led up to its representative (FiLA-Video, Eq. 5-6)."""

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
  """Frames of every scene, int32, ascending in time; K = size, the representative is last.

  x: features of the T frames of one video, mask: False for padding, index: representatives mu in
  time order. Candidates of scene i are the real frames j with mu_{i-1} < j < mu_i (mu_0 = -1); the
  size - 1 most (dis)similar by cosine join. Missing ones are replaced by the representative. A tie
  goes to the earlier frame.
  """
  place = jnp.arange(mask.shape[0], dtype=jnp.int32)
  index = index.astype(jnp.int32)
  before = jnp.concatenate([jnp.full(1, -1, jnp.int32), index[:-1]])
  inside = (place > before[:, None]) & (place < index[:, None]) & mask
  unit = normalised(x)
  score = sign(history) * jnp.einsum(
    "GD,TD->GT", unit[index], unit, precision=lax.Precision.HIGHEST
  )
  score, found = lax.top_k(jnp.where(inside, score, -jnp.inf), min(size - 1, mask.shape[0]))
  found = jnp.where(jnp.isfinite(score), found, index[:, None])
  missing = jnp.repeat(index[:, None], size - found.shape[1], axis=1)
  return jnp.sort(jnp.concatenate([found, missing], axis=1), axis=1)


def normalised(x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
  """x / |x| in float32; a zero vector stays zero."""
  x = x.astype(jnp.float32)
  x = x / jnp.maximum(jnp.abs(x).max(-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
  return x * lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1.0))


def sign(history: str) -> float:
  """1 to rank the most similar first, -1 for the least similar."""
  if history not in ORDERS:
    raise ValueError(
      f"Selector kmeans knows no history {history!r}. Set history in config.infer.selector (or "
      f"config.model.selector) to one of {', '.join(ORDERS)}."
    )
  return ORDERS[history]
