# SPDX-License-Identifier: Apache-2.0
"""The SigLIP tower: sizes, names, sharding words, and gradients. Torch: tests/parity."""

import re

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from filax.models.components import build
from filax.models.encoders import siglip
from filax.parallel import mesh
from filax.parallel.rules import leaf_path, parameter_shardings

pytestmark = pytest.mark.slow


def tiny(**fields):
  return build("encoder", dict(name="siglip", variant="tiny") | fields)


def frames(batch=2, clip=1, size=42):
  pixels = np.random.default_rng(0).integers(0, 256, (batch, clip, size, size, 3))
  return jnp.asarray(pixels, jnp.uint8)


def init(model, x):
  return jax.jit(model.init)(jax.random.key(0), x)


def apply(model, params, x):
  return jax.jit(model.apply)(params, x)


def shapes(variant):
  model = build("encoder", dict(name="siglip", variant=variant))
  x = jax.ShapeDtypeStruct((2, 3, model.size, model.size, 3), jnp.uint8)
  out, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
  tree = variables["params"]
  return model, out, {leaf_path(p): v for p, v in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("variant", siglip.VARIANTS)
def test_every_variant(variant):
  model, out, params = shapes(variant)
  rows, cols = model.grid
  assert out.shape == (2, 3, rows * cols, model.width)
  for path in params:
    assert sum(bool(re.search(pattern, path)) for pattern, _ in siglip.DIMS) == 1, path
  for pattern, _ in siglip.DIMS:
    assert any(re.search(pattern, path) for path in params), pattern


def test_full_size_counts():
  model, _, params = shapes("so400m-384")
  assert model.grid == (27, 27) and model.width == 1152 and model.clip == 1
  post_layernorm = 2 * 1152  # In the released tower, but never read.
  assert sum(p.size for p in params.values()) == 397_747_744 - post_layernorm
  assert params["embeddings/patch_embedding/kernel"].shape == (14, 14, 3, 1152)
  assert params["embeddings/position_embedding"].shape == (729, 1152)
  assert params["layers/self_attn/q_proj/kernel"].shape == (26, 1152, 16, 72)
  assert params["layers/self_attn/out_proj/kernel"].shape == (26, 16, 72, 1152)
  assert params["layers/mlp/fc1/kernel"].shape == (26, 1152, 4304)
  assert len(params) == 3 + 16


def test_shards_on_every_axis_it_names():
  with_mesh = mesh.make_mesh(dict(data=1, fsdp=2, seq=2, tensor=2))
  model = tiny()
  params = jax.eval_shape(model.init, jax.random.key(0), frames())["params"]
  layout = parameter_shardings(siglip.DIMS, params, with_mesh)
  assert layout["layers"]["mlp"]["fc1"]["kernel"].spec == P(None, "fsdp", "tensor")
  assert layout["layers"]["self_attn"]["out_proj"]["kernel"].spec == P(None, "tensor", None, "fsdp")


def test_a_mesh_changes_nothing():
  model = tiny()
  x = frames(8)
  params = init(model, x)["params"]
  run = jax.jit(lambda p, x: model.apply({"params": p}, x))
  want = run(params, x)
  with_mesh = mesh.make_mesh(dict(data=1, fsdp=2, seq=2, tensor=2))
  laid = jax.device_put(params, parameter_shardings(siglip.DIMS, params, with_mesh))
  with jax.set_mesh(with_mesh):
    np.testing.assert_allclose(run(laid, x), want, atol=2e-5)  # Sums in another order.


def test_frames_of_a_clip_do_not_interact():
  model = tiny()
  x = frames(2, 3)
  params = init(model, x)
  apart = apply(model, params, x.reshape(6, 1, 42, 42, 3)).reshape(2, 3, 9, 32)
  np.testing.assert_allclose(apply(model, params, x), apart, atol=1e-6)


def test_remat_keeps_the_gradient():
  x = frames()
  params = init(tiny(), x)

  def grad(model):
    return jax.jit(jax.grad(lambda p: jnp.square(model.apply(p, x)).sum()))(params)

  want = grad(tiny())
  for remat in ("nothing", "attn_mlp", "products"):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      want,
      grad(tiny(remat=remat)),
    )


def test_half_precision_computes_in_it_and_keeps_its_parameters():
  x = frames()
  params = init(tiny(), x)
  half = apply(tiny(dtype="bfloat16"), params, x)
  full = apply(tiny(), params, x)
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype(jnp.float32), full, atol=0.1)
  stored = jax.eval_shape(tiny(param_dtype="bfloat16").init, jax.random.key(0), x)
  assert {p.dtype for p in jax.tree.leaves(stored)} == {jnp.dtype("bfloat16")}


def test_every_matmul_of_a_block_is_a_bound_module():
  model, seen = tiny(), []
  x = frames()
  params = init(model, x)

  def note(call, args, kwargs, context):
    if isinstance(context.module, nn.DenseGeneral):
      seen.append("/".join(context.module.path))
    return call(*args, **kwargs)

  with nn.intercept_methods(note):
    jax.eval_shape(model.apply, params, x)
  assert sorted(set(seen)) == [
    "embeddings/patch_embedding",
    "layers/mlp/fc1",
    "layers/mlp/fc2",
    *(f"layers/self_attn/{name}_proj" for name in ("k", "out", "q", "v")),
  ]


def test_wrong_pictures_and_names():
  with pytest.raises(ValueError, match=r"48 x 48 pixels do not fit .*42 x 42"):
    tiny().init(jax.random.key(0), frames(size=48))
  with pytest.raises(ValueError, match=r"config\.model\.encoder\.attention='flash'"):
    tiny(attention="flash").init(jax.random.key(0), frames())
