# SPDX-License-Identifier: Apache-2.0
"""Qwen2's own promises: sizes, layer ranges, remat, and the cache. Parity is in tests/parity."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.models.components import build
from filax.models.llms import qwen2
from filax.parallel import mesh
from filax.parallel.rules import leaf_path, parameter_spec

pytestmark = pytest.mark.slow

PUBLISHED = {  # Parameters of the released models, and how many rows their tables have.
  "0.5B": (494_032_768, 151_936),
  "1.5B": (1_543_714_304, 151_936),
  "3B": (3_085_938_688, 151_936),
  "7B": (7_615_616_512, 152_064),
}


@pytest.fixture(scope="module")
def tiny():
  """(model, parameters with random norms and biases, x [2 9 D], positions)."""
  model = build("llm", dict(name="qwen2", variant="tiny"))
  x = jax.random.normal(jax.random.key(1), (2, 9, model.width))
  positions = jnp.broadcast_to(jnp.arange(9), (2, 9))
  shapes = jax.eval_shape(model.init, jax.random.key(0), x, positions)["params"]
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.2, s.shape), jnp.float32), shapes)
  return model, {"params": params}, x, positions


def shapes_of(model):
  x = jax.ShapeDtypeStruct((1, 4, model.width), jnp.float32)
  positions = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  return jax.eval_shape(model.init, jax.random.key(0), x, positions)["params"]


@pytest.mark.parametrize("variant", qwen2.VARIANTS)
def test_every_variant_has_its_published_size_and_a_layout(variant):
  model = build("llm", dict(name="qwen2", variant=variant))
  params = shapes_of(model)
  paths = {leaf_path(p): s for p, s in jax.tree_util.tree_leaves_with_path(params)}
  for path, leaf in paths.items():
    assert len(parameter_spec(qwen2.DIMS, path, leaf.shape)) == len(leaf.shape)
  assert model.vocab_rows % 512 == 0 and 0 <= model.vocab_rows - model.vocab < 512
  assert ("lm_head/kernel" in paths) != model.tied
  if variant in PUBLISHED:
    count, vocab = PUBLISHED[variant]
    padding = (model.vocab_rows - vocab) * model.width * (1 if model.tied else 2)
    assert sum(math.prod(s.shape) for s in paths.values()) - padding == count


def test_every_row_of_dims_matches_a_parameter():
  paths = {
    leaf_path(p)
    for variant in ("tiny", "toy")
    for p, _ in jax.tree_util.tree_leaves_with_path(
      shapes_of(build("llm", dict(name="qwen2", variant=variant)))
    )
  }
  for pattern, _ in qwen2.DIMS:
    assert any(re.search(pattern, path) for path in paths), pattern


def through(model, variables, x, positions, cuts):
  """All layers at once, and range by range."""
  whole, _ = model.apply(variables, x, positions, method="blocks")
  for start, stop in zip((0, *cuts), (*cuts, model.depth), strict=True):
    x, _ = model.apply(variables, x, positions, start=start, stop=stop, method="blocks")
  return whole, x


@pytest.mark.parametrize("cuts", [(2,), (1, 2)])
def test_ranges_of_layers_equal_the_whole(tiny, cuts):
  model, variables, x, positions = tiny
  whole, part = jax.jit(through, static_argnums=(0, 4))(model, variables, x, positions, cuts)
  np.testing.assert_allclose(part, whole, atol=1e-5, rtol=1e-5)


def test_the_gradient_through_ranges_equals_the_whole(tiny):
  model, variables, x, positions = tiny

  def loss(variables, which):
    return jnp.square(through(model, variables, x, positions, (1, 2))[which]).mean()

  want, have = jax.jit(lambda v: [jax.grad(loss)(v, which) for which in (0, 1)])(variables)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), have, want)


@pytest.mark.parametrize(
  "remat", ["nothing", "attn", "attn_mlp", "attn_qkv", "products", "offload"]
)
def test_remat_changes_no_gradient(tiny, remat):
  model, variables, x, positions = tiny

  def loss(model):
    return lambda v: jnp.square(model.apply(v, x, positions)[0]).mean()

  want = jax.jit(jax.value_and_grad(loss(model)))(variables)
  have = jax.jit(jax.value_and_grad(loss(model.clone(remat=remat))))(variables)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5), have, want)


@pytest.mark.parametrize("strategy", ["gather", "ring", "ulysses_ring"])
def test_layers_over_seq_have_the_gradient_of_one_device(tiny, strategy):
  """Blockwise kernels under recomputation, in a loop over layers, on packed rows."""
  model, variables, *_ = tiny
  x = jax.random.normal(jax.random.key(2), (2, 32, model.width))
  segments = jnp.asarray(np.stack([np.repeat([1, 2, 0], [9, 19, 4]), np.repeat([1, 2], [25, 7])]))
  positions = jnp.broadcast_to(jnp.arange(32), (2, 32))

  def run(model):
    def loss(v, x):
      return (
        jnp.square(model.apply(v, x, positions, segments)[0]) * (segments > 0)[..., None]
      ).mean()

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(variables, x)

  want = run(model.clone(attention="dense"))
  spread = model.clone(attention="blockwise", sequence=strategy, ulysses=2, remat="attn")
  with jax.set_mesh(mesh.make_mesh(dict(data=1, fsdp=2, seq=4, tensor=1))):
    have = run(spread)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max(), rtol=1e-5),
    have,
    want,
  )


def test_an_unknown_remat_names_its_choices(tiny):
  model, variables, x, positions = tiny
  with pytest.raises(ValueError, match="attn_mlp"):
    model.clone(remat="all").apply(variables, x, positions)


def test_reading_with_a_cache_in_pieces_equals_one_pass(tiny):
  """Pieces of 4, 1, 1 and 3 tokens."""
  model, variables, x, positions = tiny
  read = jax.jit(lambda x, at, cache: model.apply(variables, x, at, None, cache))
  whole, _ = read(x, positions, None)
  cache = model.empty_cache(2, 16)
  for start, stop in ((0, 4), (4, 5), (5, 6), (6, 9)):
    part, cache = read(x[:, start:stop], positions[:, start:stop], cache)
    np.testing.assert_allclose(part, whole[:, start:stop], atol=1e-5, rtol=1e-5)
  np.testing.assert_array_equal(cache.length, [9, 9])


def test_rows_of_different_lengths_share_a_cache(tiny):
  model, variables, x, positions = tiny
  read = jax.jit(lambda *args: model.apply(variables, *args))
  whole, _ = read(x, positions)
  first = jnp.array([6, 3])
  _, cache = read(x[:, :6], positions[:, :6], None, model.empty_cache(2, 16), first)
  place = first[:, None] + jnp.arange(3)
  rest = jnp.take_along_axis(x, place[..., None], axis=1)
  part, cache = read(rest, place, None, cache)
  np.testing.assert_allclose(
    part, jnp.take_along_axis(whole, place[..., None], axis=1), atol=1e-5, rtol=1e-5
  )
  np.testing.assert_array_equal(cache.length, [9, 6])


def test_logits_leave_out_the_padding_rows():
  model = build("llm", dict(name="qwen2", variant="tiny", vocab=100))
  x, positions = jnp.ones((1, 3, model.width)), jnp.arange(3)[None]
  variables = model.init(jax.random.key(0), x, positions)
  assert model.vocab_rows == 512
  assert model.apply(variables, x, method="logits").shape == (1, 3, 100)
  assert model.apply(variables, method="head").shape == (model.width, 512)


@pytest.mark.parametrize("tied", [True, False])
def test_the_logits_of_a_token_read_the_table_once(tied):
  """A vocabulary that needs padding makes no copy of the table, which would cost every token."""
  model = build(
    "llm",
    dict(
      name="qwen2",
      width=256,
      depth=1,
      heads=4,
      kv_heads=2,
      head_dim=64,
      mlp=256,
      vocab=5000,
      tied=tied,
    ),
  )
  params = {"params": shapes_of(model)}
  hidden = jax.ShapeDtypeStruct((1, 1, model.width), jnp.float32)
  logits = jax.jit(lambda params, hidden: model.apply(params, hidden, method="logits"))
  costs = logits.lower(params, hidden).compile().cost_analysis()
  table = 4 * model.vocab_rows * model.width
  assert costs["bytes accessed"] < 1.1 * table


def test_bfloat16_runs_and_stays_close(tiny):
  model, variables, x, positions = tiny
  want, _ = model.apply(variables, x, positions)
  have, _ = model.clone(dtype="bfloat16").apply(variables, x, positions)
  assert have.dtype == jnp.bfloat16
  assert float(jnp.abs(have.astype(jnp.float32) - want).mean() / jnp.abs(want).mean()) < 0.03
