# SPDX-License-Identifier: Apache-2.0
"""The next token from logits: greedy or sampled, in float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


def greedy(logits: Float[Array, "B V"]) -> Int[Array, "B"]:
  """The token with the largest logit.

  A tie goes to the lower id.
  """
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def log_probability(logits: Float[Array, "B V"], token: Int[Array, "B"]) -> Float[Array, "B"]:
  """log softmax(logits) of one token per row."""
  logit = jnp.take_along_axis(logits, token[:, None], axis=-1)
  return logit[:, 0] - jax.nn.logsumexp(logits, axis=-1)


def draw(
  logits: Float[Array, "B V"],
  key: PRNGKeyArray,
  temperature: Float[Array, ""],
  top_p: Float[Array, ""],
  top_k: Int[Array, ""],
) -> Int[Array, "B"]:
  """Samples one token per row from softmax(logits / temperature).

  top_k keeps the k largest (0 = all). Then top_p keeps the fewest tokens whose cumulative
  probability reaches it, at least one. Every row has its own key, so that a row does not depend on
  the size of the batch.
  """
  ranked, token_of_rank = ranked_logits(logits, temperature, top_p, top_k)
  rows = jnp.arange(logits.shape[0])
  keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
  rank = jax.vmap(jax.random.categorical)(keys, ranked)
  token = jnp.take_along_axis(token_of_rank, rank[:, None], axis=-1)
  return token[:, 0].astype(jnp.int32)


def ranked_logits(
  logits: Float[Array, "B V"],
  temperature,
  top_p,
  top_k,
) -> tuple[Float[Array, "B V"], Int[Array, "B V"]]:
  """Scaled logits in descending order, and the token of every rank.

  Logits outside top_k and top_p are -inf. With probabilities .5 .3 .2 of ranks 0 1 2, top_p = .6
  keeps ranks 0 and 1: before rank 1 the sum is .5, which is below .6; before rank 2 it is .8.
  """
  token_of_rank = jnp.argsort(logits, axis=-1, descending=True)
  ranked = jnp.take_along_axis(logits.astype(jnp.float32), token_of_rank, axis=-1)
  ranked = ranked / temperature
  rank = jnp.arange(logits.shape[-1])
  in_top_k = (top_k <= 0) | (rank < top_k)
  ranked = jnp.where(in_top_k, ranked, -jnp.inf)
  share = jax.nn.softmax(ranked, axis=-1)
  share_before = jnp.cumsum(share, axis=-1) - share
  in_top_p = (share_before < top_p) | (rank == 0)
  return jnp.where(in_top_p, ranked, -jnp.inf), token_of_rank
