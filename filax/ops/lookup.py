# SPDX-License-Identifier: Apache-2.0
"""Embedding lookup by token, with gradients summed in float32."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from filax.parallel import gather
from filax.parallel.rules import partition_spec


def lookup(
  table: Float[Array, "V D"],
  tokens: Int[Array, "B L"],
) -> Float[Array, "B L D"]:
  """table[tokens].

  On a mesh every device gathers the table, which is sharded over (fsdp, seq), except for so few
  tokens that summing the partial lookups of all devices is cheaper.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1 or not _pays(table.shape, tokens.shape, mesh):
    return _take_rows(table, tokens)
  places = partition_spec("batch seq")

  def gather_and_look_up(table, tokens):
    return _take_rows(gather.gather_rows(table), tokens)

  on_mesh = gather.over_mesh(
    gather_and_look_up,
    in_specs=(P(("fsdp", "seq"), None), places),
    out_specs=P(*places, None),
  )
  return on_mesh(table, tokens)


def _pays(table: tuple[int, ...], tokens: tuple[int, ...], mesh) -> bool:
  """Whether gathering the table is cheaper.

  True if the shapes divide evenly over the mesh and the tokens are many.
  """
  shards = mesh.shape["fsdp"] * mesh.shape["seq"]
  rows = mesh.shape["data"] * mesh.shape["fsdp"]
  if table[0] % shards or tokens[0] % rows or tokens[1] % mesh.shape["seq"]:
    return False
  return 2 * math.prod(tokens) >= table[0]


@jax.custom_vjp
def _take_rows(table, tokens):
  return jnp.take(table, tokens, axis=0)


def _forward(table, tokens):
  return _take_rows(table, tokens), (table, tokens)


def _backward(saved, slope):
  table, tokens = saved
  zeros = jnp.zeros(table.shape, jnp.float32)
  total = zeros.at[tokens].add(slope.astype(jnp.float32))
  return total.astype(table.dtype), None


_take_rows.defvjp(_forward, _backward)
