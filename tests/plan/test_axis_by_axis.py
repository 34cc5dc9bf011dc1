# SPDX-License-Identifier: Apache-2.0
"""Weights of the llm's layers are gathered over seq, then over fsdp: never over both at once."""

import jax
import jax.numpy as jnp

from filax.models.components import build
from filax.models.llms import qwen2
from filax.parallel import mesh, rules
from filax.plan import collectives

SIZES = dict(data=1, fsdp=4, seq=2, tensor=1)
ROWS = 4
LENGTH = 16


def moved():
  """(axes -> kind -> bytes of a forward and backward pass, bytes of the layers' parameters)."""
  model = build("llm", dict(name="qwen2", variant="tiny"))
  layout = mesh.make_mesh(SIZES)
  x = jax.ShapeDtypeStruct(
    (ROWS, LENGTH, model.width),
    jnp.float32,
    sharding=jax.NamedSharding(layout, rules.partition_spec("batch seq -")),
  )
  positions = jax.ShapeDtypeStruct(
    (ROWS, LENGTH),
    jnp.int32,
    sharding=jax.NamedSharding(layout, rules.partition_spec("batch seq")),
  )
  shapes = jax.eval_shape(model.init, jax.random.key(0), x, positions)["params"]
  shardings = rules.parameter_shardings(qwen2.DIMS, shapes, layout)

  def sharded(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  def loss(params, x, positions):
    return model.apply({"params": params}, x, positions)[0].sum()

  params = jax.tree.map(sharded, shapes, shardings)
  with jax.set_mesh(layout):
    gradient = jax.jit(jax.grad(loss), out_shardings=shardings)
    text = gradient.lower(params, x, positions).compile().as_text()
  layer_bytes = sum(leaf.size for leaf in jax.tree.leaves(shapes["layers"])) * 4
  return collectives.totals(collectives.read_collectives(text, SIZES)), layer_bytes


def test_weights_are_gathered_axis_by_axis():
  received, layer_bytes = moved()
  assert received["fsdp"]["all-gather"] > 0.9 * layer_bytes * 3 / 4
  assert received["seq"]["all-gather"] > 0.9 * layer_bytes / 4 / 2
  assert received.get("fsdp*seq", {}).get("all-gather", 0) < 0.05 * layer_bytes
