# SPDX-License-Identifier: Apache-2.0
"""Bipartite soft matching of frames and tokens.

The baselines of FiLA-Video's appendix: frames (B) and tokens (C.2). Members at even places are
matched with members at odd places by cosine similarity.
"""

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from filax.ops.even_and_odd import even_and_odd
from filax.ops.history import unit_vectors
from filax.ops.uniform import real_first

EXACT = lax.Precision.HIGHEST
_NEVER = -2  # Below every cosine.


def select_frames(
  x: Float[Array, "T D"],
  mask: Bool[Array, "T"],
  segments: int,
  size: int,
) -> Int[Array, "G K"]:
  """The group of most similar frames in every segment.

  Returns int32 [G K], ascending, K = `size`. x: features of the T frames of one video, mask: False
  for padding. The real frames are cut into G = `segments` even parts of at most W places. Each
  frame at an even place a is grouped with its size - 1 most similar frames at odd places b; each
  part keeps the group with the largest sum of similarities. The result is meaningless for a part of
  fewer than 2 (size - 1) frames.
  """
  count = mask.sum(dtype=jnp.int32)
  companions = size - 1
  frames = mask.shape[0]
  bounds = jnp.arange(segments + 1, dtype=jnp.int32) * count // segments
  width = max(-(-frames // segments), 2 * companions)
  rank = bounds[:-1, None] + jnp.arange(width)  # [G W]
  real = rank < bounds[1:, None]
  slots = real_first(mask)
  frame = slots[jnp.minimum(rank, frames - 1)]  # [G W]
  frame = frame.astype(jnp.int32)
  unit = unit_vectors(x)[frame]  # [G W D]
  even, odd = even_and_odd(unit, axis=1)
  even_is_real, odd_is_real = even_and_odd(real, axis=1)
  cosine = jnp.einsum("GaD,GbD->Gab", even, odd, precision=EXACT)
  cosine = jnp.where(odd_is_real[:, None], cosine, _NEVER)
  cosine, companion = lax.top_k(cosine, companions)  # [G a size-1]
  total = jnp.where(even_is_real, cosine.sum(-1), -jnp.inf)  # [G a]
  best = jnp.argmax(total, axis=-1)
  best = best[:, None]  # [G 1]
  companion = jnp.take_along_axis(companion, best[..., None], axis=1)
  companion = companion[:, 0]  # [G size-1]
  place = jnp.concatenate([2 * best, 2 * companion + 1], axis=1)  # Among the W of a part.
  selected = jnp.take_along_axis(frame, place, axis=1)
  return jnp.sort(selected, axis=1)


def merge_tokens(x: Float[Array, "N D"], target: int) -> Float[Array, "target D"]:
  """Merges N tokens into `target` (Algorithm 1, corrected).

  A round merges at most half of the tokens. It averages a token at an even place into its most
  similar token at an odd place, the most similar pairs first. Of an odd number of tokens it merges
  at most the smaller half, as ToMe does: 33 become 17. Averages are weighted by how many input
  tokens each token represents. The result is float32, ordered by place; a merged token takes the
  place of its odd partner. No gradient flows through the matching.
  """
  count = x.shape[0]
  if not 0 < target <= count:
    raise ValueError(f"{count} tokens cannot be merged into {target}.")
  x = x.astype(jnp.float32)
  size = jnp.ones(count)
  place = jnp.arange(count)
  while count > target:
    merged = min(count - target, count // 2)
    x, size, place = _merge_round(x, size, place, merged)
    count -= merged
  return x[jnp.argsort(place)]


def _merge_round(x, size, place, merged: int):
  """Merges `merged` of the tokens at even places into odd ones.

  The result has the remaining even tokens first, then the odd tokens.
  """
  unit = lax.stop_gradient(unit_vectors(x))
  even, odd = even_and_odd(unit)
  cosine = jnp.einsum("aD,bD->ab", even, odd, precision=EXACT)
  similarity = cosine.max(-1)
  order = jnp.argsort(-similarity, stable=True)  # Of even places, the most similar first.
  source = 2 * order[:merged]
  kept = 2 * order[merged:]
  partner = cosine.argmax(-1)  # Index among the odd tokens.
  partner = partner[order[:merged]]
  odd_size = size[1::2]
  odd_size = odd_size.at[partner].add(size[source])
  odd_sum = x[1::2] * size[1::2, None]
  source_sum = x[source] * size[source, None]
  odd_sum = odd_sum.at[partner].add(source_sum)
  return (
    jnp.concatenate([x[kept], odd_sum / odd_size[:, None]]),
    jnp.concatenate([size[kept], odd_size]),
    jnp.concatenate([place[kept], place[1::2]]),
  )
