# SPDX-License-Identifier: Apache-2.0
"""Merging of similar tokens as VideoChat-Flash does it (arXiv:2501.00574): all clips at once.

Every iteration pairs each even token with its most similar odd token and averages the best pairs.
Matching is done in float32 without gradients; sums are matrix products, never scatters, so the
result does not depend on the order in which a device adds.

Two cosines that differ by less than about 1e-7 are a near tie: which of them is larger is decided
by float32's rounding, as in the released code by that of half precision, and may differ from
float64's choice. Clips of 448 pixels have such ties; either choice merges tokens that are
equally alike, but everything after it can differ.
"""

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

EXACT = lax.Precision.HIGHEST  # A product in bfloat16 passes would move near ties.


def schedule(tokens: int, target: int) -> tuple[int, ...]:
  """How many tokens each iteration merges on the way from `tokens` to `target`.

  784 to 64 is (392, 196, 98, 34): half of the tokens while that leaves more than `target`.
  Raises ValueError if `target` is not in 1..tokens.
  """
  if not 1 <= target <= tokens:
    raise ValueError(
      f"{tokens} tokens cannot be merged into {target}. Set config.model.merger.tokens so that the "
      f"result has 1 to {tokens} tokens."
    )
  merged = []
  while tokens > target:
    merged.append(min(tokens // 2, tokens - target))
    tokens -= merged[-1]
  return tuple(merged)


def merge(
  x: Float[Array, "b p E"], target: int, heads: int = 16, chunk: int = 0
) -> tuple[Float[Array, "b n E"], Float[Array, "b n"]]:
  """b clips of p tokens -> n = `target` tokens each, and how many tokens each of them stands for.

  The sum of size · token is that of the input. Order: after an iteration, unmerged even tokens by
  falling similarity (ties to the lower index), then the odd tokens. `heads` are those of the
  encoder: similarity is the cosine of a token's mean over heads. `chunk` > 0 merges that many
  clips at a time.
  """
  if chunk and x.shape[0] > chunk:
    one = lambda clip: jax.tree.map(lambda a: a[0], merge(clip[None], target, heads))
    return lax.map(one, x, batch_size=chunk)
  dtype, x = x.dtype, x.astype(jnp.float32)
  size = jnp.ones(x.shape[:2], jnp.float32)
  for merged in schedule(x.shape[1], target):
    x, size = halve(x, size, merged, heads)
  return x.astype(dtype), size


def halve(
  x: Float[Array, "b p E"], size: Float[Array, "b p"], merged: int, heads: int
) -> tuple[Float[Array, "b n E"], Float[Array, "b n"]]:
  """One iteration: n = p - merged. `merged` is at most half of p."""
  best, partner = match(x, heads)
  even, odd = x[:, ::2], x[:, 1::2]
  even_size, odd_size = size[:, ::2], size[:, 1::2]
  if merged == even.shape[1]:  # All of them: no ranking.
    return _average(even, even_size, odd, odd_size, partner)
  order = jnp.argsort(-best, axis=1, stable=True)
  rest, order = order[:, merged:], order[:, :merged]
  take = jax.vmap(lambda a, index: a[index])
  y, y_size = _average(
    take(even, order), take(even_size, order), odd, odd_size, take(partner, order)
  )
  return (
    jnp.concatenate([take(even, rest), y], axis=1),
    jnp.concatenate([take(even_size, rest), y_size], axis=1),
  )


def match(x: Float[Array, "b p E"], heads: int) -> tuple[Float[Array, "b a"], Int[Array, "b a"]]:
  """The best cosine of every even token with an odd one, and which odd one that is."""
  batch, tokens, width = x.shape
  metric = lax.stop_gradient(x).astype(jnp.float32)
  metric = metric.reshape(batch, tokens, heads, width // heads).mean(2)
  norm = jnp.sqrt(jnp.square(metric).sum(-1, keepdims=True))
  metric = metric / jnp.where(norm > 0, norm, 1)  # A token of zeros is like no other.
  scores = jnp.einsum("bae,bce->bac", metric[:, ::2], metric[:, 1::2], precision=EXACT)
  return scores.max(-1), scores.argmax(-1).astype(jnp.int32)


@jax.checkpoint  # The backward pass keeps `partner`, not a matrix of pairs.
def _average(even, even_size, odd, odd_size, partner):
  """Adds even tokens onto their odd partners: the size-weighted mean, and the summed size."""
  pairs = jax.nn.one_hot(partner, odd.shape[1], dtype=jnp.float32)
  total = odd * odd_size[..., None] + jnp.einsum(
    "bac,bae->bce", pairs, even * even_size[..., None], precision=EXACT
  )
  size = odd_size + jnp.einsum("bac,ba->bc", pairs, even_size, precision=EXACT)
  return total / size[..., None], size
