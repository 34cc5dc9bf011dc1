# SPDX-License-Identifier: Apache-2.0
"""Similar token merging of VideoChat-Flash (arXiv:2501.00574), all clips at once.

Every iteration pairs each even token with its most similar odd token and averages the best pairs.
Matching is done in float32 without gradients. Sums do not depend on the order in which a device
happens to add.

Two cosines that differ by less than about 1e-7 are a near tie: float32 rounding decides which is
larger, as half precision rounding does in the released code, and the result may differ from a
float64 computation. Clips of 448 pixels have such ties; either choice merges tokens that are
equally alike, but everything after it can differ.
"""

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from filax.ops.even_and_odd import even_and_odd
from filax.ops.partner_sums import sum_by_partner

EXACT = lax.Precision.HIGHEST  # A product in bfloat16 passes would move near ties.


def schedule(tokens: int, target: int) -> tuple[int, ...]:
  """Numbers of tokens to merge in each iteration, from `tokens` to `target`.

  784 to 64 is (392, 196, 98, 34): half of the tokens while that leaves more than `target`.
  Raises ValueError if `target` is not in 1..tokens.
  """
  if not 1 <= target <= tokens:
    raise ValueError(
      f"{tokens} tokens cannot be merged into {target}. Set config.model.merger.tokens so that the "
      f"result has 1 to {tokens} tokens."
    )
  merged_counts = []
  while tokens > target:
    merged = min(tokens // 2, tokens - target)
    merged_counts.append(merged)
    tokens -= merged
  return tuple(merged_counts)


def near_square(count: int) -> tuple[int, int]:
  """The most square (rows, columns) of `count` tokens.

  rows · columns = count and rows <= columns.
  """
  rows = int(count**0.5)
  while count % rows:
    rows -= 1
  return rows, count // rows


def merge_clips(
  x: Float[Array, "b p E"],
  target: int,
  heads: int = 16,
  chunk: int = 0,
) -> tuple[Float[Array, "b n E"], Float[Array, "b n"]]:
  """Merges the p tokens of each clip into n = `target`.

  heads: the encoder's number of heads. Similarity is the cosine of the tokens' means over heads.
  chunk: if positive, this many clips are merged at a time.

  Returns (tokens, sizes). A size is the number of input tokens that a token represents, so the sum
  of size · token equals the sum of the input tokens. After an iteration, the unmerged even tokens
  come first, by falling similarity (ties to the lower index); the odd tokens follow.
  """
  if chunk and x.shape[0] > chunk:

    def merge_clip(clip):
      merged, size = merge_clips(clip[None], target, heads)
      return merged[0], size[0]

    return lax.map(merge_clip, x, batch_size=chunk)
  dtype = x.dtype
  x = x.astype(jnp.float32)
  size = jnp.ones(x.shape[:2], jnp.float32)
  for merged in schedule(x.shape[1], target):
    x, size = merge_iteration(x, size, merged, heads)
  return x.astype(dtype), size


def merge_iteration(
  x: Float[Array, "b p E"],
  size: Float[Array, "b p"],
  merged: int,
  heads: int,
) -> tuple[Float[Array, "b n E"], Float[Array, "b n"]]:
  """Merges `merged` tokens, at most half of them.

  n = p - `merged`.

  tokens 0..5, merged = 2, cosines of tokens 0 2 4 with their partners .1 .9 .5
  ->  0 | 1 3 5, where 2 and 4 are averaged onto their partners
  """
  similarity, partner = match(x, heads)
  even, odd = even_and_odd(x, axis=1)
  even_size, odd_size = even_and_odd(size, axis=1)
  if merged == even.shape[1]:  # All of them: no ranking.
    return _average(even, even_size, odd, odd_size, partner)
  order = jnp.argsort(-similarity, axis=1, stable=True)
  rest = order[:, merged:]
  order = order[:, :merged]
  take = jax.vmap(lambda tokens, index: tokens[index])
  absorbed, absorbed_size = _average(
    take(even, order), take(even_size, order), odd, odd_size, take(partner, order)
  )
  return (
    jnp.concatenate([take(even, rest), absorbed], axis=1),
    jnp.concatenate([take(even_size, rest), absorbed_size], axis=1),
  )


def match(x: Float[Array, "b p E"], heads: int) -> tuple[Float[Array, "b a"], Int[Array, "b a"]]:
  """The most similar odd token of every even token.

  Returns the cosine of each pair and the index of the odd token, [b a] for a even tokens.
  """
  batch, tokens, width = x.shape
  metric = lax.stop_gradient(x).astype(jnp.float32)
  metric = metric.reshape(batch, tokens, heads, width // heads).mean(2)
  squares = jnp.square(metric).sum(-1, keepdims=True)
  norm = jnp.sqrt(squares)
  metric = metric / jnp.where(norm > 0, norm, 1)  # A token of zeros is like no other.
  even, odd = even_and_odd(metric, axis=1)
  cosine = jnp.einsum("bae,bce->bac", even, odd, precision=EXACT)
  similarity = cosine.max(-1)
  partner = cosine.argmax(-1)
  return similarity, partner.astype(jnp.int32)


def _average(even, even_size, odd, odd_size, partner):
  """Averages even tokens into their odd partners, weighted by size.

  Even tokens are [b a e], odd tokens [b c e]. Sizes are summed.
  """
  count = odd.shape[1]
  total = odd * odd_size[..., None] + sum_by_partner(even * even_size[..., None], partner, count)
  size = odd_size + sum_by_partner(even_size[..., None], partner, count)[..., 0]
  return total / size[..., None], size
