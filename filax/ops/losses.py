# SPDX-License-Identifier: Apache-2.0
"""Next-token cross entropy in chunks of positions, and its two means.

V is the rows of the output projection, which may be more than the vocabulary. Float32 logits exist
for one chunk of c positions at a time, in the forward and in the backward pass: never [R L V].
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from filax.ops import chunks
from filax.parallel import gather
from filax.parallel.rules import partition_spec

EXACT = lax.Precision.HIGHEST  # By default, devices round the factors of a product to bfloat16.


def cross_entropy(
  hidden: Float[Array, "R L D"],
  head: Float[Array, "D V"],
  targets: Int[Array, "R L"],
  *,
  chunk: int = 1024,
  vocab: int | None = None,
) -> tuple[Float[Array, "R L"], Bool[Array, "R L"]]:
  """Cross entropy and correctness of the likeliest token, per position.

  Returns -log p(target) in float32, and whether the target is the likeliest token. `chunk`
  positions of every row are computed at once; L need not be a multiple. Columns of `head` from
  `vocab` on are padding and get no probability. On a mesh every device computes its own positions,
  and a chunk takes an equal share of each device. `head`, sharded over (fsdp, seq), is gathered
  once, and its gradient is scattered once. Raises ValueError if `chunk` is not positive.
  """
  if chunk < 1:
    raise ValueError(f"config.optim.loss_chunk={chunk} cannot be used. Set it above 0.")
  vocab = vocab or head.shape[1]
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return _in_chunks(hidden, head, targets, chunk, vocab)
  shards = mesh.shape["seq"]
  length = targets.shape[1]
  if length % shards:
    raise ValueError(
      f"{length} positions do not split over {shards} shards. Set config.data.rows so that every L "
      "is a multiple of config.mesh.seq."
    )
  chunk_of_shard = max(chunk // shards, 1)
  places = partition_spec("batch seq")

  def own_positions(hidden, head, targets):
    return _in_chunks(hidden, gather.gather_rows(head), targets, chunk_of_shard, vocab)

  on_mesh = gather.over_mesh(
    own_positions,
    in_specs=(P(*places, None), P(("fsdp", "seq"), None), places),
    out_specs=(places, places),
  )
  return on_mesh(hidden, head, targets)


def token_mean(
  nll: Float[Array, "R L"],
  loss_mask: Float[Array, "R L"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """(sum, count) of the mean over supervised tokens.

  Sum both over shards, then divide once.
  """
  supervised = jnp.where(loss_mask > 0, nll * loss_mask, 0)
  return supervised.sum(), loss_mask.sum()


def sample_mean(
  nll: Float[Array, "R L"],
  loss_mask: Float[Array, "R L"],
  segment_ids: Int[Array, "R L"],
  segments: int,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """(sum, count) of LLaVA's mean over samples.

  A sample's loss is the mean over its supervised tokens. A sample is a segment (1..`segments`) of a
  row; samples without supervised tokens do not count.

    nll = [1 3 | 8], two samples  ->  means 2 and 8, sum 10, count 2  ->  loss 5 (by tokens: 4)
  """
  total, count = sample_sums(nll, loss_mask, segment_ids, segments)
  mean = total / jnp.maximum(count, 1)
  return mean.sum(), (count > 0).sum().astype(jnp.float32)


def sample_sums(
  nll: Float[Array, "R L"],
  loss_mask: Float[Array, "R L"],
  segment_ids: Int[Array, "R L"],
  segments: int,
) -> tuple[Float[Array, "R S"], Float[Array, "R S"]]:
  """(sum of the loss, supervised tokens) of every sample.

  A sample is a segment (1..`segments`) of a row.
  """
  member = jax.nn.one_hot(segment_ids - 1, segments, dtype=jnp.float32)  # Padding is in none.
  supervised = jnp.where(loss_mask > 0, nll * loss_mask, 0)
  total = jnp.einsum("RL,RLS->RS", supervised, member, precision=EXACT)
  count = jnp.einsum("RL,RLS->RS", loss_mask, member, precision=EXACT)
  return total, count


def _in_chunks(hidden, head, targets, chunk: int, vocab: int):
  """nll and hit [R L] of one device's positions."""
  length = targets.shape[1]
  chunk = min(chunk, length)
  hidden = chunks.cut(chunks.pad(hidden, chunk), chunk)
  targets = chunks.cut(chunks.pad(targets, chunk), chunk)
  nll, hit = _scan(hidden, head, targets, vocab)
  return chunks.join(nll, length), chunks.join(hit, length)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _scan(hidden, head, targets, vocab: int):
  """Loss and hit of every position, chunk by chunk.

  hidden [n R c D], targets [n R c] -> nll, hit [n R c]. The gradient of `head` is summed over
  chunks in float32 and rounded once; autodiff would round every chunk in bfloat16.
  """
  outputs, _ = _forward(hidden, head, targets, vocab)
  return outputs


def _forward(hidden, head, targets, vocab):
  def chunk_loss(part):
    x, target = part
    logits = _logits(x, head, vocab)
    norm = jax.nn.logsumexp(logits, axis=-1)
    target_logit = jnp.where(_is(target, logits), logits, 0).sum(-1)
    nll = norm - target_logit
    # The first maximum is the likeliest token; XLA's argmax is slow on a CPU.
    is_largest = logits == logits.max(-1, keepdims=True)
    places = jnp.where(is_largest, jnp.arange(head.shape[1]), vocab)
    hit = places.min(-1) == target
    return nll, hit, norm

  nll, hit, norm = lax.map(chunk_loss, (hidden, targets))
  return (nll, hit), (hidden, head, targets, norm)


def _backward(vocab, saved, cotangents):
  hidden, head, targets, norm = saved
  d_nll, _ = cotangents

  def chunk_gradient(d_head, part):
    x, target, norm, d_nll = part
    logits = _logits(x, head, vocab)
    probability = jnp.exp(logits - norm[..., None])
    d_logits = (probability - _is(target, logits)) * d_nll[..., None]
    d_logits = d_logits.astype(x.dtype)  # The matrix products run as those of the forward pass.
    d_head += jnp.einsum("RcD,RcV->DV", x, d_logits, preferred_element_type=jnp.float32)
    d_x = jnp.einsum("RcV,DV->RcD", d_logits, head, preferred_element_type=jnp.float32)
    return d_head, d_x.astype(x.dtype)

  zeros = jnp.zeros(head.shape, jnp.float32)
  d_head, d_hidden = lax.scan(chunk_gradient, zeros, (hidden, targets, norm, d_nll))
  return d_hidden, d_head.astype(head.dtype), None


_scan.defvjp(_forward, _backward)


def _logits(x, head, vocab: int) -> Float[Array, "R c V"]:
  logits = jnp.einsum("RcD,DV->RcV", x, head, preferred_element_type=jnp.float32)
  if vocab == head.shape[1]:
    return logits
  is_token = jnp.arange(head.shape[1]) < vocab
  return jnp.where(is_token, logits, -jnp.inf)


def _is(target, logits) -> Bool[Array, "R c V"]:
  """True in the column of the target."""
  return target[..., None] == jnp.arange(logits.shape[-1])
