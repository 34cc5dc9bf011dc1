# SPDX-License-Identifier: Apache-2.0
"""Ring attention: keys and values travel around a ring of devices (arXiv:2310.01889).

Each device keeps its queries. In every round it computes the attention to the keys that it holds,
merges the partial result, and passes the keys on to the next device. In the backward pass the keys
travel around the ring again together with their gradients, which so return to their own device. A
device never holds more than its own keys and one visiting part.
"""

from collections.abc import Callable
from functools import partial

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from filax.ops.attention import blockwise, dense
from filax.ops.attention.tiles import At, KeysAt

WITH_LSE = {  # Kernels whose partial results can be merged.
  "auto": blockwise.with_lse,
  "blockwise": blockwise.with_lse,
  "dense": dense.dense_with_lse,
}


def ring(
  q: Float[Array, "B L H d"],
  k: Float[Array, "B S K d"],
  v: Float[Array, "B S K d"],
  q_at: At,
  kv_at: KeysAt,
  *,
  axis: str,
  with_lse: Callable,
  stride: int = 1,
) -> Float[Array, "B L H d"]:
  """Attention of local queries to all keys of a ring, inside shard_map.

  axis, stride: the ring consists of every `stride`-th device of a mesh axis. with_lse: a kernel of
  WITH_LSE, which computes a partial result in float32.
  """
  return _ring(q, k, v, q_at, kv_at, axis, with_lse, stride).astype(q.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def _ring(q, k, v, q_at, kv_at, axis, with_lse, stride):
  out, _ = _around(q, k, v, q_at, kv_at, axis, with_lse, stride)
  return out


def _forward(q, k, v, q_at, kv_at, axis, with_lse, stride):
  out, lse = _around(q, k, v, q_at, kv_at, axis, with_lse, stride)
  out = checkpoint_name(out, blockwise.SAVED)
  lse = checkpoint_name(lse, blockwise.SAVED)
  return out, (q, k, v, q_at, kv_at, out, lse)


def _around(q, k, v, q_at, kv_at, axis, with_lse, stride):
  """(output, log-sum-exp) over all keys."""

  def pass_on(carry, _):
    merged, travelling = carry
    k, v, kv_at = _from_neighbour(travelling, axis, stride)
    part = with_lse(q, k, v, q_at, kv_at)
    merged = blockwise.merge_parts(merged, part)
    return (merged, (k, v, kv_at)), None

  first = with_lse(q, k, v, q_at, kv_at)
  start = (first, (k, v, kv_at))
  carry, _ = lax.scan(pass_on, start, None, length=_others(axis, stride))
  merged, _ = carry
  return merged


def _backward(axis, with_lse, stride, saved, d_out):
  q, k, v, q_at, kv_at, out, lse = saved
  delta = (d_out * out).sum(-1)

  def gradients(k, v, kv_at):
    return blockwise.gradients(q, k, v, q_at, kv_at, lse, delta, d_out)

  def pass_on(carry, _):
    d_q, travelling = carry
    k, v, kv_at, d_k, d_v = _from_neighbour(travelling, axis, stride)
    more_q, more_k, more_v = gradients(k, v, kv_at)
    d_q = d_q + more_q
    travelling = (k, v, kv_at, d_k + more_k, d_v + more_v)
    return (d_q, travelling), None

  d_q, d_k, d_v = gradients(k, v, kv_at)
  start = (d_q, (k, v, kv_at, d_k, d_v))
  carry, _ = lax.scan(pass_on, start, None, length=_others(axis, stride))
  d_q, travelling = carry
  *_, d_k, d_v = travelling
  d_k, d_v = _from_neighbour((d_k, d_v), axis, stride)  # The last step, back to their own device.
  d_q = d_q.astype(q.dtype)
  d_k = d_k.astype(k.dtype)
  d_v = d_v.astype(v.dtype)
  return d_q, d_k, d_v, None, None


_ring.defvjp(_forward, _backward)


def _from_neighbour(tree, axis: str, stride: int):
  """The tree of the device `stride` places before this device."""
  size = lax.axis_size(axis)
  pairs = [(device, (device + stride) % size) for device in range(size)]
  return jax.tree.map(lambda x: lax.ppermute(x, axis, pairs), tree)


def _others(axis: str, stride: int) -> int:
  """The number of other devices in the ring."""
  return lax.axis_size(axis) // stride - 1
