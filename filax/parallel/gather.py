# SPDX-License-Identifier: Apache-2.0
"""Parameters that lie over (fsdp, seq), made whole inside a shard_map."""

from collections.abc import Callable

import jax
from jax import lax

AXES = frozenset(("data", "fsdp", "seq"))  # What a shard_map here takes over; tensor is left out.


def whole(x: jax.Array) -> jax.Array:
  """A shard of rows, its first dimension over (fsdp, seq) -> all rows.

  Gathered axis by axis: the gradient is then scattered over fsdp and after that over seq, where XLA
  turns a scatter over both at once into a sum of the whole on every chip.
  """
  return lax.all_gather(lax.all_gather(x, "seq", axis=0, tiled=True), "fsdp", axis=0, tiled=True)


def spread(body: Callable, in_specs, out_specs) -> Callable:
  """shard_map of `body` over AXES on the mesh in use."""
  return jax.shard_map(
    body, in_specs=in_specs, out_specs=out_specs, axis_names=AXES, check_vma=False
  )
