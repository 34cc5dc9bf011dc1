# SPDX-License-Identifier: Apache-2.0
"""Attention over sequences that are sharded over the mesh axis `seq`.

The signature is the same as in ops.attention.dense. Strategies:

gather   every device gathers all keys and values (arXiv:2407.21783 §3.3.2): the default.
ring     keys and values travel around, partial results are merged (arXiv:2310.01889).
ulysses  heads are traded for sequence (arXiv:2309.14509): as many devices as heads allow.
ulysses_ring  ulysses within groups of neighbours, ring between the groups (arXiv:2405.07719).

Masks come from (segment, place), so contiguous and zig-zag order share the same code.
"""

from collections.abc import Callable
from functools import partial
import math

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float
import numpy as np

from filax.ops.attention import dense, splash
from filax.ops.attention import ring as ring_attention
from filax.parallel.rules import ACTIVATION_AXES

AXIS = "seq"


def attend(kernel: str, strategy: str, ulysses: int = 0) -> Callable:
  """The attention function of a config for the mesh in use.

  Returns attend(q, k, v, q_at, kv_at). Without a mesh, or with config.mesh.seq = 1, this is the
  kernel itself. On a TPU, "auto" selects splash where it supports the strategy and the row.
  """
  if strategy not in STRATEGIES:
    raise ValueError(
      f"config.model.llm.sequence={strategy!r} is unknown. Set it to one of "
      f"{', '.join(STRATEGIES)}."
    )
  if kernel == "splash":
    return splash.attend(strategy)
  mesh = jax.sharding.get_abstract_mesh()
  if kernel == "auto" and not mesh.empty and mesh.abstract_device.platform == "tpu":
    return partial(_on_tpu, strategy, ulysses)
  return _plain(kernel, strategy, ulysses, mesh)


def _on_tpu(strategy: str, ulysses: int, q, k, v, q_at, kv_at):
  """Splash where it suits the row, else another kernel."""
  mesh = jax.sharding.get_abstract_mesh()
  if splash.suits(strategy, q.shape, mesh):
    return splash.attend(strategy)(q, k, v, q_at, kv_at)
  return _plain("auto", strategy, ulysses, mesh)(q, k, v, q_at, kv_at)


def _plain(kernel: str, strategy: str, ulysses: int, mesh) -> Callable:
  """Kernels that are not splash."""
  if mesh.empty or mesh.shape[AXIS] == 1:
    return dense.attention_kernel(kernel)
  if "ring" in strategy and kernel not in ring_attention.WITH_LSE:
    raise ValueError(
      f"config.model.llm.sequence={strategy!r} needs a kernel that returns its log-sum-exp. Set "
      f"config.model.llm.attention to one of {', '.join(ring_attention.WITH_LSE)}, or sequence to "
      f"gather."
    )
  if strategy == "ulysses":
    ulysses = mesh.shape[AXIS]
  body = partial(STRATEGIES[strategy], kernel=kernel, degree=ulysses)
  return partial(_on_every_device, body)


def _on_every_device(body, q, k, v, q_at, kv_at) -> Float[Array, "B L H d"]:
  """Runs `body` on every device's rows, places and heads."""
  places = P(ACTIVATION_AXES["batch"], AXIS)
  heads = P(*places, ACTIVATION_AXES["heads"])
  in_specs = (heads, heads, heads, (places, places), (places, places))
  on_mesh = jax.shard_map(body, in_specs=in_specs, out_specs=heads)
  return on_mesh(q, k, v, q_at, kv_at)


def gather(q, k, v, q_at, kv_at, *, kernel: str, degree: int):
  """Attention of local queries to gathered keys of all devices."""
  attend = dense.attention_kernel(kernel)
  k = lax.all_gather(k, AXIS, axis=1, tiled=True)
  v = lax.all_gather(v, AXIS, axis=1, tiled=True)
  segment, place = kv_at
  segment = lax.all_gather(segment, AXIS, axis=1, tiled=True)
  place = lax.all_gather(place, AXIS, axis=1, tiled=True)
  return attend(q, k, v, q_at, (segment, place))


def ring(q, k, v, q_at, kv_at, *, kernel: str, degree: int):
  """Attention of local queries to all keys, device by device."""
  return ring_attention.ring(q, k, v, q_at, kv_at, axis=AXIS, kernel=kernel)


def ulysses(q, k, v, q_at, kv_at, *, kernel: str, degree: int):
  """Attention with whole sequences and a share of heads per device.

  With `degree` below the number of devices, a ring connects groups of `degree` neighbours.
  """
  size = lax.axis_size(AXIS)
  degree = degree or math.gcd(size, q.shape[2])
  _check_degree(size, degree, q.shape[2], k.shape[2])
  groups = None
  if degree < size:
    groups = np.arange(size).reshape(-1, degree).tolist()
  k = _repeat_heads(k, degree)
  v = _repeat_heads(v, degree)
  trade = partial(lax.all_to_all, axis_name=AXIS, axis_index_groups=groups, tiled=True)
  q = trade(q, split_axis=2, concat_axis=1)
  k = trade(k, split_axis=2, concat_axis=1)
  v = trade(v, split_axis=2, concat_axis=1)
  gather_places = partial(
    lax.all_gather, axis_name=AXIS, axis_index_groups=groups, axis=1, tiled=True
  )
  q_at, kv_at = jax.tree.map(gather_places, (q_at, kv_at))
  if groups is None:
    attend_rows = dense.attention_kernel(kernel)
    out = attend_rows(q, k, v, q_at, kv_at)
  else:
    out = ring_attention.ring(q, k, v, q_at, kv_at, axis=AXIS, kernel=kernel, stride=degree)
  return trade(out, split_axis=1, concat_axis=2)


def _check_degree(size: int, degree: int, heads: int, kv_heads: int) -> None:
  """Raises ValueError unless `degree` devices can share the heads."""

  def fits(degree: int) -> bool:
    if size % degree or heads % degree:
      return False
    copies = math.lcm(kv_heads, degree) // kv_heads
    return (heads // kv_heads) % copies == 0

  if fits(degree):
    return
  choices = list(filter(fits, range(1, size + 1)))
  raise ValueError(
    f"config.model.llm.ulysses={degree} does not fit {heads} query heads, {kv_heads} kv heads "
    f"and config.mesh.seq={size}. Set it to one of {choices} with sequence=ulysses_ring, or "
    f"sequence to gather or ring."
  )


def _repeat_heads(x, degree: int):
  """Repeats kv heads until `degree` devices can share them.

  x is [B S K d].
  """
  copies = math.lcm(x.shape[2], degree) // x.shape[2]
  if copies == 1:
    return x
  return jnp.repeat(x, copies, axis=2)


STRATEGIES = {"gather": gather, "ring": ring, "ulysses": ulysses, "ulysses_ring": ulysses}
