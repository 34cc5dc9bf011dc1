# SPDX-License-Identifier: Apache-2.0
"""The projector's methods, its newline vector and its size. Torch: tests/parity."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.models.components import build
from filax.models.projectors import mlp
from filax.parallel.rules import leaf_path, parameter_spec


def init(model, width=6):
  return model.init(jax.random.key(0), jnp.ones((2, 3, width)))["params"]


def test_parameters_and_newline_modes():
  for newline in mlp.NEWLINES:
    model = build("projector", dict(name="mlp", newline=newline), out=8)
    params = init(model)
    assert ("image_newline" in params) == (newline != "none")
    vector = model.apply({"params": params}, method="newline_vector")
    assert vector.shape == (8,) and (np.abs(vector).max() > 0) == (newline != "none")
  kept = build("projector", dict(name="mlp", newline="none", image_newline=True), out=8)
  assert init(kept)["image_newline"].shape == (8,)


def test_newline_starts_at_the_scale_of_llava():
  params = init(build("projector", dict(name="mlp"), out=4096))
  assert np.std(params["image_newline"]) == pytest.approx(4096**-0.5, rel=0.1)


def test_methods_share_parameters_and_follow_dtype():
  model = build("projector", dict(name="mlp"), out=8, dtype="bfloat16", param_dtype="float32")
  params = init(model)

  def run(method, *args):
    return model.apply({"params": params}, *args, method=method)

  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 9, 6)), jnp.float32)
  y = run("mlp", x)
  assert y.shape == (1, 2, 9, 8) and y.dtype == jnp.bfloat16
  assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(params))
  pooled = run("pool", y, (3, 3))
  assert pooled.shape == (1, 2, 4, 8) and pooled.dtype == jnp.bfloat16
  assert model.pooled_grid((3, 3)) == (2, 2)
  assert run("newline_vector").dtype == jnp.bfloat16


def test_side_one_does_not_pool():
  model = build("projector", dict(name="mlp", pool_side=1), out=8)
  x = jnp.ones((1, 1, 9, 8))
  assert model.apply({"params": init(model)}, x, (3, 3), method="pool") is x
  assert model.pooled_grid((3, 3)) == (3, 3)


@pytest.mark.parametrize(
  ("fields", "knob"),
  [
    (dict(newline="row"), r"config\.model\.projector\.newline='row'.*one_token, grid, frame, none"),
    (dict(out=0), r"config\.model\.projector .*out=0"),
    (dict(pool_side=0), "pool_side=0"),
  ],
)
def test_impossible_settings_name_the_knob(fields, knob):
  with pytest.raises(ValueError, match=knob):
    init(build("projector", dict(name="mlp") | fields, out=8))


def test_full_size():
  model = build("projector", dict(name="mlp"), out=3584)
  x = jax.ShapeDtypeStruct((1, 32, 729, 1152), jnp.bfloat16)
  params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
  sizes = {leaf_path(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
  assert sum(p.size for p in sizes.values()) == 16_980_992 + 3584
  for path, leaf in sizes.items():
    parameter_spec(mlp.DIMS, path, leaf.shape)
  for pattern, _ in mlp.DIMS:
    assert any(re.search(pattern, path) for path in sizes), pattern
