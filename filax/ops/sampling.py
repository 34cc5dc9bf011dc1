# SPDX-License-Identifier: Apache-2.0
"""The next token from logits: greedy or sampled, in float32."""

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

  A positive logit is divided by the penalty, a negative one multiplied with it (CTRL,
  arXiv:1909.05858). penalty: a number, or one per row; 1 changes nothing.
  """
  factor = _column(penalty)
  lowered = jnp.where(logits < 0, logits * factor, logits / factor)
  return jnp.where(seen, lowered, logits)


def row_keys(
  keys: Key[Array, "B"], draws: Int[Array, "B"], rows: Int[Array, "B"]
) -> Key[Array, "B"]:
  """The key of every row for its next draw.

  keys [B] are those of the answers' seeds; `draws` counts the draws before, and `rows` tells apart
  the answers of one seed.
  """

  def of_row(key, draw_number, row):
    return jax.random.fold_in(jax.random.fold_in(key, draw_number), row)

  return jax.vmap(of_row)(keys, draws, rows)


def draw(
  logits: Float[Array, "B V"],
  keys: Key[Array, "B"],
  temperature: Float[Array, "..."],
  top_p: Float[Array, "..."],
  top_k: Int[Array, "..."],
  min_p: Float[Array, "..."] | float = 0.0,
) -> Int[Array, "B"]:
  """Samples one token per row from softmax(logits / temperature).

  The cuts are those of `ranked_logits`. Every row has its own key in keys [B], so that a row does
  not depend on the other rows. Settings are one number, or one per row.

  Sorting the logits is most of the work, and it is left out if no row has cuts. That changes no
  draw, because the noise belongs to a token and not to its rank.
  """
  noise = _noise(keys, logits.shape[-1])

  def among_all(logits):
    return jnp.argmax(logits.astype(jnp.float32) / _column(temperature) + noise, axis=-1)

  def among_kept(logits):
    ranked, token_of_rank = ranked_logits(logits, temperature, top_p, top_k, min_p)
    noise_of_rank = jnp.take_along_axis(noise, token_of_rank, axis=-1)
    rank = jnp.argmax(ranked + noise_of_rank, axis=-1)
    return jnp.take_along_axis(token_of_rank, rank[:, None], axis=-1)[:, 0]

  has_cuts = _has_cuts(top_p, top_k, min_p)
  return lax.cond(has_cuts, among_kept, among_all, logits).astype(jnp.int32)


def _noise(keys: Key[Array, "B"], tokens: int) -> Float[Array, "B V"]:
  """Gumbel noise of every token.

  The argmax of logits plus noise is a draw from their softmax.
  """

  def of_row(key):
    return jax.random.gumbel(key, (tokens,))

  return jax.vmap(of_row)(keys)


def _has_cuts(top_p, top_k, min_p) -> Bool[Array, ""]:
  """Whether any row leaves out tokens."""
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

  top_k keeps the k largest (0 = all). Then top_p keeps the fewest tokens whose cumulative
  probability reaches it, and min_p those with at least min_p times the largest probability; rank 0
  always remains. Other logits are -inf. With probabilities .5 .3 .2 of ranks 0 1 2, top_p = .6
  keeps ranks 0 and 1: before rank 1 the sum is .5, which is below .6; before rank 2 it is .8.
  """
  token_of_rank = jnp.argsort(logits, axis=-1, descending=True)
  ranked = jnp.take_along_axis(logits.astype(jnp.float32), token_of_rank, axis=-1)
  ranked = ranked / _column(temperature)
  rank = jnp.arange(logits.shape[-1])
  limit = _column(top_k)
  in_top_k = (limit <= 0) | (rank < limit)
  ranked = jnp.where(in_top_k, ranked, -jnp.inf)
  share = jax.nn.softmax(ranked, axis=-1)
  share_before = jnp.cumsum(share, axis=-1) - share
  limit = _column(top_p)
  in_top_p = (share_before < limit) | (limit >= 1)  # Sums of float32 may reach 1 before the end.
  in_min_p = share >= _column(min_p) * share[:, :1]
  is_kept = (in_top_p & in_min_p) | (rank == 0)
  return jnp.where(is_kept, ranked, -jnp.inf), token_of_rank


def _column(setting):
  """A number, or one per row, that broadcasts over [B V]."""
  return jnp.reshape(setting, (-1, 1))
