# SPDX-License-Identifier: Apache-2.0
"""Attention over keys that travel around a ring of devices (arXiv:2310.01889).

Forward, partial results are merged as keys pass; backward, the keys go round once more and carry
their gradients home. A device holds its own part of the sequence and one that passes, no more.
"""

from functools import partial

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from filax.ops.attention import blockwise, dense

WITH_LSE = {  # Kernels whose partial results can be merged.
  "auto": blockwise.with_lse,
  "blockwise": blockwise.with_lse,
  "dense": dense.dense_with_lse,
}


def ring(
  q: Float[Array, "B L H d"],
  k: Float[Array, "B S K d"],
  v: Float[Array, "B S K d"],
  q_at: blockwise.At,
  kv_at: blockwise.KeysAt,
  *,
  axis: str,
  kernel: str,
  stride: int = 1,
) -> Float[Array, "B L H d"]:
  """Inside shard_map: local queries, the keys of every device that is a multiple of `stride` places
  away along the mesh axis `axis`. `kernel` is a name in WITH_LSE; partial results are float32."""
  return _ring(q, k, v, q_at, kv_at, axis, kernel, stride).astype(q.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def _ring(q, k, v, q_at, kv_at, axis, kernel, stride):
  return _around(q, k, v, q_at, kv_at, axis, kernel, stride)[0]


def _forward(q, k, v, q_at, kv_at, axis, kernel, stride):
  made = _around(q, k, v, q_at, kv_at, axis, kernel, stride)
  out, lse = (checkpoint_name(x, blockwise.SAVED) for x in made)
  return out, (q, k, v, q_at, kv_at, out, lse)


def _around(q, k, v, q_at, kv_at, axis, kernel, stride):
  """(output, log-sum-exp) over all keys."""
  attend = WITH_LSE[kernel]

  def step(carry, _):
    done, kv = carry
    kv = _next(kv, axis, stride)
    return (blockwise.merge(done, attend(q, *kv[:2], q_at, kv[2])), kv), None

  first = attend(q, k, v, q_at, kv_at), (k, v, kv_at)
  return lax.scan(step, first, None, length=_others(axis, stride))[0][0]


def _backward(axis, kernel, stride, saved, d_out):
  q, k, v, q_at, kv_at, out, lse = saved
  delta = (d_out * out).sum(-1)
  slopes = lambda k, v, kv_at: blockwise.gradients(q, k, v, q_at, kv_at, lse, delta, d_out)

  def step(carry, _):
    d_q, travelling = carry
    k, v, kv_at, d_k, d_v = _next(travelling, axis, stride)
    more = slopes(k, v, kv_at)
    return (d_q + more[0], (k, v, kv_at, d_k + more[1], d_v + more[2])), None

  d_q, *d_kv = slopes(k, v, kv_at)
  first = d_q, (k, v, kv_at, *d_kv)
  (d_q, (*_, d_k, d_v)), _ = lax.scan(step, first, None, length=_others(axis, stride))
  d_k, d_v = _next((d_k, d_v), axis, stride)
  return d_q.astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype), None, None


_ring.defvjp(_forward, _backward)


def _next(tree, axis: str, stride: int):
  """What the device `stride` places before has."""
  size = lax.axis_size(axis)
  pairs = [(i, (i + stride) % size) for i in range(size)]
  return jax.tree.map(lambda x: lax.ppermute(x, axis, pairs), tree)


def _others(axis: str, stride: int) -> int:
  return lax.axis_size(axis) // stride - 1
