# SPDX-License-Identifier: Apache-2.0
"""Gathers, inside a shard_map, parameters that lie over (fsdp, seq)."""

from collections.abc import Callable

import jax
from jax import lax

AXES = frozenset(("data", "fsdp", "seq"))  # Manual axes of the shard_maps; tensor stays automatic.


def gather_rows(x: jax.Array) -> jax.Array:
  """All rows from a shard [rows ...] that lies over (fsdp, seq).

  Gathered axis by axis: the gradient is then scattered over fsdp and after that over seq, where XLA
  turns a scatter over both at once into a sum of the whole array on every chip.
  """
  over_seq = lax.all_gather(x, "seq", axis=0, tiled=True)
  return lax.all_gather(over_seq, "fsdp", axis=0, tiled=True)


def over_mesh(body: Callable, in_specs, out_specs) -> Callable:
  """The shard_map of `body` over AXES on the mesh in use."""
  return jax.shard_map(
    body, in_specs=in_specs, out_specs=out_specs, axis_names=AXES, check_vma=False
  )
