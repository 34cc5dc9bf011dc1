# SPDX-License-Identifier: Apache-2.0
"""Weights of the llm's layers are gathered over seq, then over fsdp: never over both at once."""

import jax
import jax.numpy as jnp

from filax.models.components import build
from filax.models.llms import qwen2
from filax.parallel import mesh, rules
from filax.plan import collectives

SIZES = dict(data=1, fsdp=4, seq=2, tensor=1)
ROWS, LENGTH = 4, 16


def moved():
  """(axes -> kind -> bytes of a forward and backward pass, bytes of the layers' parameters)."""
  model, layout = build("llm", dict(name="qwen2", variant="tiny")), mesh.make_mesh(SIZES)
  x = jax.ShapeDtypeStruct(
    (ROWS, LENGTH, model.width),
    jnp.float32,
    sharding=jax.NamedSharding(layout, rules.partition_spec("batch seq -")),
  )
  at = jax.ShapeDtypeStruct(
    (ROWS, LENGTH), jnp.int32, sharding=x.sharding.update(spec=rules.partition_spec("batch seq"))
  )
  shapes = jax.eval_shape(model.init, jax.random.key(0), x, at)["params"]
  lies = rules.parameter_shardings(qwen2.DIMS, shapes, layout)
  params = jax.tree.map(
    lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, lies
  )
  slope = jax.grad(lambda p, x, at: model.apply({"params": p}, x, at)[0].sum())
  with jax.set_mesh(layout):
    text = jax.jit(slope, out_shardings=lies).lower(params, x, at).compile().as_text()
  held = sum(s.size for s in jax.tree.leaves(shapes["layers"])) * 4
  return collectives.totals(collectives.read_collectives(text, SIZES)), held


def test_weights_are_gathered_axis_by_axis():
  found, held = moved()
  assert found["fsdp"]["all-gather"] > 0.9 * held * 3 / 4
  assert found["seq"]["all-gather"] > 0.9 * held / 4 / 2
  assert found.get("fsdp*seq", {}).get("all-gather", 0) < 0.05 * held
