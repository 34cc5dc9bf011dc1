# SPDX-License-Identifier: Apache-2.0
"""The next token from logits: the largest, or a draw. All in float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


def greedy(logits: Float[Array, "B V"]) -> Int[Array, "B"]:
  """The token with the largest logit; a tie goes to the lower id."""
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def draw(
  logits: Float[Array, "B V"],
  key: PRNGKeyArray,
  temperature: Float[Array, ""],
  top_p: Float[Array, ""],
  top_k: Int[Array, ""],
) -> Int[Array, "B"]:
  """One token a row from softmax(logits / temperature), cut to top_k, then to top_p.

  top_k keeps the k largest (0 = all). top_p keeps the fewest tokens whose share reaches it, at
  least one. Row b draws with its own key, so that a row does not depend on the size of the batch.
  """
  ranked, order = ranks(logits, temperature, top_p, top_k)
  keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(logits.shape[0]))
  place = jax.vmap(jax.random.categorical)(keys, ranked)
  return jnp.take_along_axis(order, place[:, None], axis=-1)[:, 0].astype(jnp.int32)


def ranks(logits: Float[Array, "B V"], temperature, top_p, top_k):
  """Scaled logits from the largest down, -inf where cut off, and the token of every rank."""
  order = jnp.argsort(logits, axis=-1, descending=True)
  ranked = jnp.take_along_axis(logits.astype(jnp.float32), order, axis=-1) / temperature
  rank = jnp.arange(logits.shape[-1])
  ranked = jnp.where((top_k <= 0) | (rank < top_k), ranked, -jnp.inf)
  share = jax.nn.softmax(ranked, axis=-1)
  before = jnp.cumsum(share, axis=-1) - share
  return jnp.where((before < top_p) | (rank == 0), ranked, -jnp.inf), order
