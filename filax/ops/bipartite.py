# SPDX-License-Identifier: Apache-2.0
"""Bipartite soft matching of frames and of tokens.

These are baselines of FiLA-Video: appendix B selects frames, appendix C.2 merges tokens. Frames (or
tokens) at even places are matched with frames (or tokens) at odd places by cosine similarity.
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
  """The most similar frames in every part of a video.

  x: features of the T frames of one video. mask: False for padding. Returns the indices of the
  frames, int32 [G K], ascending, with K = `size`.

  The real frames are cut into G = `segments` even parts of at most W frames. In each part, every
  frame at an even place forms a group with its size - 1 most similar frames at odd places. The part
  returns the group with the largest sum of similarities. The result is meaningless for a part of
  fewer than 2 (size - 1) frames.
  """
  companions = size - 1
  frame, is_real = _frames_of_parts(mask, segments, least_width=2 * companions)  # [G W]
  unit = unit_vectors(x)[frame]  # [G W D]
  even, odd = even_and_odd(unit, axis=1)
  even_is_real, odd_is_real = even_and_odd(is_real, axis=1)
  cosine = jnp.einsum("GaD,GbD->Gab", even, odd, precision=EXACT)
  cosine = jnp.where(odd_is_real[:, None], cosine, _NEVER)
  cosine, companion = lax.top_k(cosine, companions)  # [G a size-1]
  total = jnp.where(even_is_real, cosine.sum(-1), -jnp.inf)  # [G a]
  best = jnp.argmax(total, axis=-1)
  best = best[:, None]  # [G 1]
  companion = jnp.take_along_axis(companion, best[..., None], axis=1)
  companion = companion[:, 0]  # [G size-1]
  place_in_part = jnp.concatenate([2 * best, 2 * companion + 1], axis=1)
  selected = jnp.take_along_axis(frame, place_in_part, axis=1)
  return jnp.sort(selected, axis=1)


def _frames_of_parts(mask: Bool[Array, "T"], segments: int, least_width: int):
  """The frames of each part, and which of them are real.

  Both are [G W].
  """
  count = mask.sum(dtype=jnp.int32)
  frames = mask.shape[0]
  bounds = jnp.arange(segments + 1, dtype=jnp.int32) * count // segments
  longest_part = -(-frames // segments)  # Rounded up.
  width = max(longest_part, least_width)
  rank = bounds[:-1, None] + jnp.arange(width)  # Index among the real frames.
  is_real = rank < bounds[1:, None]
  frame_of_rank = real_first(mask)
  frame = frame_of_rank[jnp.minimum(rank, frames - 1)]
  return frame.astype(jnp.int32), is_real


def merge_tokens(x: Float[Array, "N D"], target: int) -> Float[Array, "target D"]:
  """Merges N tokens into `target` tokens (Algorithm 1, corrected).

  A round matches every token at an even place with its most similar token at an odd place, and
  merges the most similar pairs. It merges at most half of the tokens, rounded down, as ToMe does:
  33 become 17. A merged token is the mean of all input tokens that it represents, and takes the
  place of its odd partner. The result is float32, ordered by place. No gradient flows through the
  matching.
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
  """Merges `merged` of the even tokens into odd tokens.

  Returns the new x, size and place. They have the remaining even tokens first, then the odd tokens.
  """
  unit = lax.stop_gradient(unit_vectors(x))
  even, odd = even_and_odd(unit)
  cosine = jnp.einsum("aD,bD->ab", even, odd, precision=EXACT)
  similarity = cosine.max(-1)
  order = jnp.argsort(-similarity, stable=True)  # Even tokens, the most similar first.
  source = 2 * order[:merged]
  kept = 2 * order[merged:]
  most_similar = cosine.argmax(-1)  # Index among the odd tokens.
  partner = most_similar[order[:merged]]
  odd_size = size[1::2]
  odd_sum = x[1::2] * odd_size[:, None]
  source_sum = x[source] * size[source, None]
  odd_size = odd_size.at[partner].add(size[source])
  odd_sum = odd_sum.at[partner].add(source_sum)
  odd_mean = odd_sum / odd_size[:, None]
  x = jnp.concatenate([x[kept], odd_mean])
  size = jnp.concatenate([size[kept], odd_size])
  place = jnp.concatenate([place[kept], place[1::2]])
  return x, size, place
