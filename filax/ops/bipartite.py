# SPDX-License-Identifier: Apache-2.0
"""Bipartite soft matching, the baselines of FiLA-Video's appendix: of frames (B), of tokens (C.2).

Members at even places are matched with members at odd places by cosine similarity.
"""

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from filax.ops.history import normalised
from filax.ops.uniform import real_first


def select(
  x: Float[Array, "T D"], mask: Bool[Array, "T"], segments: int, size: int
) -> Int[Array, "G K"]:
  """Of every segment the frame with the closest companions, and those: int32, ascending, K = size.

  x: features of the T frames of one video, mask: False for padding. The real frames are cut into
  G = `segments` even parts. Each frame at an even place is joined to its size - 1 most similar
  frames at odd places; the part keeps the group with the largest sum of similarities. Means nothing
  if a part has fewer than 2 (size - 1) frames.
  """
  count, edges = mask.sum(dtype=jnp.int32), size - 1
  bounds = jnp.arange(segments + 1, dtype=jnp.int32) * count // segments
  width = max(-(-mask.shape[0] // segments), 2 * edges)
  rank = bounds[:-1, None] + jnp.arange(width)
  real = rank < bounds[1:, None]
  frame = real_first(mask)[jnp.minimum(rank, mask.shape[0] - 1)].astype(jnp.int32)  # [G W]
  unit = normalised(x)[frame]
  score = jnp.einsum("GaD,GbD->Gab", unit[:, ::2], unit[:, 1::2], precision=lax.Precision.HIGHEST)
  score, companion = lax.top_k(jnp.where(real[:, None, 1::2], score, -2), edges)  # [G a r]
  total = jnp.where(real[:, ::2], score.sum(-1), -jnp.inf)
  best = jnp.argmax(total, axis=-1)[:, None]  # [G 1]
  companion = jnp.take_along_axis(companion, best[..., None], axis=1)[:, 0]
  slots = jnp.concatenate([2 * best, 2 * companion + 1], axis=1)
  return jnp.sort(jnp.take_along_axis(frame, slots, axis=1), axis=1)


def merge(x: Float[Array, "N D"], target: int) -> Float[Array, "target D"]:
  """Merges N tokens into `target`, at most half of them a round (Algorithm 1, corrected).

  A token at an even place is averaged into its most similar token at an odd place, the most similar
  pairs first. Of an odd number a round merges the smaller half at most, as ToMe does: 33 become 17.
  Averages are weighted by how many tokens a token stands for. The result is in the order of the
  places of those that absorbed, float32. No gradient flows through the matching.
  """
  if not 0 < target <= x.shape[0]:
    raise ValueError(f"{x.shape[0]} tokens cannot be merged into {target}.")
  x, size = x.astype(jnp.float32), jnp.ones(x.shape[0])
  place = jnp.arange(x.shape[0])
  while (left := x.shape[0] - target) > 0:
    x, size, place = _round(x, size, place, min(left, x.shape[0] // 2))
  return x[jnp.argsort(place)]


def _round(x, size, place, edges: int):
  """One matching: absorbs `edges` of the tokens at even places. Kept ones come first, then odd."""
  unit = lax.stop_gradient(normalised(x))
  score = jnp.einsum("aD,bD->ab", unit[::2], unit[1::2], precision=lax.Precision.HIGHEST)
  order = jnp.argsort(-score.max(-1), stable=True)
  source, kept = 2 * order[:edges], 2 * order[edges:]
  into = score.argmax(-1)[order[:edges]]
  weight = size[1::2].at[into].add(size[source])
  total = (x[1::2] * size[1::2, None]).at[into].add(x[source] * size[source, None])
  join = lambda kept_part, odd_part: jnp.concatenate([kept_part, odd_part])
  return (
    join(x[kept], total / weight[:, None]),
    join(size[kept], weight),
    join(place[kept], place[1::2]),
  )
