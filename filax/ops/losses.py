# SPDX-License-Identifier: Apache-2.0
"""Next-token cross entropy in chunks of positions, and the two ways to average it.

V is the rows of the output projection, which may be more than the vocabulary. Float32 logits exist
for one chunk at a time, in the forward and in the backward pass: never [R L V].
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from filax.parallel import gather
from filax.parallel.rules import spec


def cross_entropy(
  hidden: Float[Array, "R L D"],
  head: Float[Array, "D V"],
  targets: Int[Array, "R L"],
  *,
  chunk: int = 1024,
  vocab: int | None = None,
) -> tuple[Float[Array, "R L"], Bool[Array, "R L"]]:
  """-log p(target) in float32 and whether the target is the likeliest token, per position.

  `chunk` positions of every row are worked on at once; L need not be a multiple. Columns of `head`
  from `vocab` on are padding and get no probability. On a mesh every device works on its own
  positions, a chunk takes an equal share of each, and `head`, which is spread over (fsdp, seq), is
  gathered once, its gradient scattered once. Raises ValueError if `chunk` is not positive.
  """
  if chunk < 1:
    raise ValueError(f"A chunk of {chunk} positions is none. Set config.optim.loss_chunk above 0.")
  vocab, mesh = vocab or head.shape[1], jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return _in_chunks(hidden, head, targets, chunk, vocab)
  shards, length = mesh.shape["seq"], targets.shape[1]
  if length % shards:
    raise ValueError(
      f"{length} positions do not split over {shards} shards. Set config.data.rows so that every L "
      "is a multiple of config.mesh.seq."
    )
  places = spec("batch seq")
  run = gather.spread(
    lambda x, head, targets: _in_chunks(
      x, gather.whole(head), targets, max(chunk // shards, 1), vocab
    ),
    in_specs=(P(*places, None), P(("fsdp", "seq"), None), places),
    out_specs=(places, places),
  )
  return run(hidden, head, targets)


def token_mean(
  nll: Float[Array, "R L"], loss_mask: Float[Array, "R L"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """(sum, count) of the mean over supervised tokens. Add both over shards, then divide once."""
  return jnp.where(loss_mask > 0, nll * loss_mask, 0).sum(), loss_mask.sum()


def sample_mean(
  nll: Float[Array, "R L"],
  loss_mask: Float[Array, "R L"],
  segment_ids: Int[Array, "R L"],
  segments: int,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """(sum, count) of LLaVA's mean over samples of each sample's mean over its supervised tokens.

  A sample is a segment (1..`segments`) of a row; one without supervised tokens does not count.
  """
  member = jax.nn.one_hot(segment_ids - 1, segments, dtype=jnp.float32)  # Padding is in none.
  total = jnp.einsum("RL,RLS->RS", jnp.where(loss_mask > 0, nll * loss_mask, 0), member)
  count = jnp.einsum("RL,RLS->RS", loss_mask, member)
  return (total / jnp.maximum(count, 1)).sum(), (count > 0).sum().astype(jnp.float32)


def _in_chunks(hidden, head, targets, chunk: int, vocab: int):
  """nll, hit [R L] of the positions that one device has."""
  length = targets.shape[1]
  chunk = min(chunk, length)
  nll, hit = _scan(_cut(hidden, chunk), head, _cut(targets, chunk), vocab)
  joined = lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :length]
  return joined(nll), joined(hit)


def _cut(x, chunk: int):
  """[R L ...] -> [n R chunk ...], zeros at the end."""
  x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % chunk), *((0, 0),) * (x.ndim - 2)))
  return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _scan(hidden, head, targets, vocab: int):
  """hidden [n R c D], targets [n R c] -> nll, hit [n R c]. The gradient of `head` is summed over
  chunks in float32 and rounded once, which autodiff would not do in bfloat16."""
  return _forward(hidden, head, targets, vocab)[0]


def _forward(hidden, head, targets, vocab):
  def one(part):
    x, target = part
    logits = _logits(x, head, vocab)
    norm = jax.nn.logsumexp(logits, axis=-1)
    nll = norm - jnp.where(_is(target, logits), logits, 0).sum(-1)
    places = jnp.where(logits == logits.max(-1, keepdims=True), jnp.arange(head.shape[1]), vocab)
    return nll, places.min(-1) == target, norm  # The first maximum; XLA's argmax is slow on a CPU.

  nll, hit, norm = lax.map(one, (hidden, targets))
  return (nll, hit), (hidden, head, targets, norm)


def _backward(vocab, saved, cotangents):
  hidden, head, targets, norm = saved

  def one(total, part):
    x, target, norm, g = part
    logits = _logits(x, head, vocab)
    slope = (jnp.exp(logits - norm[..., None]) - _is(target, logits)) * g[..., None]
    slope = slope.astype(x.dtype)  # The matrix products of the backward pass run as the forward's.
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    total += product("RcD,RcV->DV", x, slope)
    return total, product("RcV,DV->RcD", slope, head).astype(x.dtype)

  total, slopes = lax.scan(
    one, jnp.zeros(head.shape, jnp.float32), (hidden, targets, norm, cotangents[0])
  )
  return slopes, total.astype(head.dtype), None


_scan.defvjp(_forward, _backward)


def _logits(x, head, vocab):
  logits = jnp.einsum("RcD,DV->RcV", x, head, preferred_element_type=jnp.float32)
  if vocab == head.shape[1]:
    return logits
  return jnp.where(jnp.arange(head.shape[1]) < vocab, logits, -jnp.inf)


def _is(target, logits):
  return target[..., None] == jnp.arange(logits.shape[-1])
