# SPDX-License-Identifier: Apache-2.0
"""Chooses the next token from logits: greedy or sampled, in float32."""

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


def greedy(logits: Float[Array, "B V"]) -> Int[Array, "B"]:
  """The token with the largest logit.

  A tie goes to the lower id.
  """
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def log_probability(logits: Float[Array, "B V"], token: Int[Array, "B"]) -> Float[Array, "B"]:
  """log softmax(logits) of one token per row."""
  logit = jnp.take_along_axis(logits, token[:, None], axis=-1)
  return logit[:, 0] - jax.nn.logsumexp(logits, axis=-1)


def penalised(
  logits: Float[Array, "B V"], seen: Bool[Array, "B V"], penalty: Float[Array, "..."]
) -> Float[Array, "B V"]:
  """Logits with a repetition penalty on the tokens that were seen.

  The penalty divides a positive logit and multiplies a negative one (CTRL, arXiv:1909.05858).
  penalty: a number, or one per row; 1 changes nothing.
  """
  factor = _column(penalty)
  lowered = jnp.where(logits < 0, logits * factor, logits / factor)
  return jnp.where(seen, lowered, logits)


def row_keys(
  keys: Key[Array, "B"], draws: Int[Array, "B"], rows: Int[Array, "B"]
) -> Key[Array, "B"]:
  """The random key of every row for its next draw.

  keys: made from the seeds of the answers. draws: the number of earlier draws. rows: tells apart
  several answers with one seed.
  """

  def key_of_row(key, draw_number, row):
    key_of_draw = jax.random.fold_in(key, draw_number)
    return jax.random.fold_in(key_of_draw, row)

  return jax.vmap(key_of_row)(keys, draws, rows)


def draw(
  logits: Float[Array, "B V"],
  keys: Key[Array, "B"],
  temperature: Float[Array, "..."],
  top_p: Float[Array, "..."],
  top_k: Int[Array, "..."],
  min_p: Float[Array, "..."] | float = 0.0,
) -> Int[Array, "B"]:
  """Samples one token per row from softmax(logits / temperature).

  top_p, top_k and min_p cut off unlikely tokens, as described in `ranked_logits`. A setting is one
  number, or one per row. Every row has its own key, so the draw of a row does not depend on the
  other rows.

  Most of the time is spent on sorting the logits. Without any cut they need not be sorted, and the
  draw is the same: the noise belongs to a token, and not to its rank.
  """
  noise = _noise(keys, logits.shape[-1])

  def among_all(logits):
    scaled = logits.astype(jnp.float32) / _column(temperature)
    return jnp.argmax(scaled + noise, axis=-1)

  def among_kept(logits):
    ranked, token_of_rank = ranked_logits(logits, temperature, top_p, top_k, min_p)
    noise_of_rank = jnp.take_along_axis(noise, token_of_rank, axis=-1)
    rank = jnp.argmax(ranked + noise_of_rank, axis=-1)
    token = jnp.take_along_axis(token_of_rank, rank[:, None], axis=-1)
    return token[:, 0]

  has_cuts = _has_cuts(top_p, top_k, min_p)
  return lax.cond(has_cuts, among_kept, among_all, logits).astype(jnp.int32)


def _noise(keys: Key[Array, "B"], tokens: int) -> Float[Array, "B V"]:
  """Gumbel noise for every token of every row.

  The argmax of logits plus this noise is a random draw from the softmax of the logits.
  """

  def noise_of_row(key):
    return jax.random.gumbel(key, (tokens,))

  return jax.vmap(noise_of_row)(keys)


def _has_cuts(top_p, top_k, min_p) -> Bool[Array, ""]:
  """Whether the settings cut off tokens in any row."""
  by_probability = jnp.any(jnp.less(top_p, 1))
  by_count = jnp.any(jnp.greater(top_k, 0))
  by_share = jnp.any(jnp.greater(min_p, 0))
  return by_probability | by_count | by_share


def ranked_logits(
  logits: Float[Array, "B V"],
  temperature,
  top_p,
  top_k,
  min_p=0.0,
) -> tuple[Float[Array, "B V"], Int[Array, "B V"]]:
  """Scaled logits in descending order, and the token of every rank.

  The logits are divided by the temperature. The logits of tokens that are cut off are -inf. The
  cuts, in this order:

    top_k  keeps the k largest logits; 0 keeps all
    top_p  keeps the fewest tokens whose probabilities add up to at least top_p
    min_p  keeps tokens with at least min_p times the largest probability

  Rank 0 is always kept. Example: the probabilities of ranks 0 1 2 are .5 .3 .2, and top_p = .6. The
  sum before rank 1 is .5, below .6, so rank 1 is kept; the sum before rank 2 is .8, so it is not.
  """
  token_of_rank = jnp.argsort(logits, axis=-1, descending=True)
  ranked = jnp.take_along_axis(logits.astype(jnp.float32), token_of_rank, axis=-1)
  ranked = ranked / _column(temperature)
  rank = jnp.arange(logits.shape[-1])
  most_tokens = _column(top_k)
  in_top_k = (most_tokens <= 0) | (rank < most_tokens)
  ranked = jnp.where(in_top_k, ranked, -jnp.inf)
  probability = jax.nn.softmax(ranked, axis=-1)
  sum_before = jnp.cumsum(probability, axis=-1) - probability
  limit = _column(top_p)
  in_top_p = (sum_before < limit) | (limit >= 1)  # A float32 sum may reach 1 before the last rank.
  in_min_p = probability >= _column(min_p) * probability[:, :1]
  is_kept = (in_top_p & in_min_p) | (rank == 0)
  ranked = jnp.where(is_kept, ranked, -jnp.inf)
  return ranked, token_of_rank


def _column(setting):
  """A setting as a column that broadcasts over [B V].

  The setting is one number, or one per row.
  """
  return jnp.reshape(setting, (-1, 1))
