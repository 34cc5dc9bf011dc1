# SPDX-License-Identifier: Apache-2.0
"""Adapters and codes of every kernel of a tiny model: nothing at first, then like merged ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.models import adapted, components, layers, lora, quantised
from filax.parallel import rules
from filax.testing import row_source
from tests.models.merged_leaves import merge_leaves

RANKS = (("^llm/", 4), ("", 2))


@pytest.fixture(scope="module")
def config():
  return row_source.tiny_train_config()


@pytest.fixture(scope="module")
def model(config):
  return components.build_video_lm(config.model)


@pytest.fixture(scope="module")
def kernels(model):
  return components.dense_kernels(model)


@pytest.fixture(scope="module")
def params(model):
  return flatten_tree(jax.jit(model.init)(jax.random.key(0), model.example())["params"])


@pytest.fixture(scope="module")
def adapters(model):
  """The adapters of all kernels, as first drawn."""
  return adapted.Adaptation(*_kernels_and_ranks(model), alpha=8.0).draw_adapters(0)


def _kernels_and_ranks(model):
  kernels = components.dense_kernels(model)
  return kernels, lora.chosen_ranks(RANKS, kernels)


def moved(adapters):
  """Adapters whose B is not zero."""
  leaves = dict(adapters)
  for number, path in enumerate(leaves):
    if path.endswith(lora.B):
      leaves[path] = 0.1 * jax.random.normal(jax.random.key(number), leaves[path].shape)
  return leaves


@pytest.fixture(scope="module")
def batch(config):
  return jax.tree.map(jnp.asarray, row_source.random_batch(1))


@pytest.fixture(scope="module")
def hidden(model, batch):
  """A function from leaves to hidden states, compiled once for each set of leaves."""
  return jax.jit(lambda leaves: model.apply({"params": unflatten_tree(leaves)}, batch))


def test_every_matrix_product_is_known(kernels, params):
  assert set(kernels) == {path for path in params if path.endswith("/kernel")} - {
    "llm/lm_head/kernel"
  }
  assert kernels["llm/layers/self_attn/o_proj/kernel"].inputs == 2
  assert not kernels["projector/linear_1/kernel"].stacked


def test_at_first_nothing_changes_bit_for_bit(model, params, adapters):
  """Operation by operation; compiled, other fusions may round otherwise."""
  batch = jax.tree.map(jnp.asarray, model.example())
  batch["tokens"] = jnp.arange(8)[None]
  batch["segment_ids"] = jnp.ones((1, 8), jnp.int32)
  batch["positions"] = jnp.arange(8)[None]
  batch["frames"] = jnp.asarray(np.random.default_rng(0).integers(0, 256, batch["frames"].shape))
  batch["frames"] = batch["frames"].astype(jnp.uint8)
  batch["images"] = batch["frames"]  # As many, so that they run the operations of frames.
  with jax.disable_jit():
    before = model.apply({"params": unflatten_tree(params)}, batch)
    after = model.apply({"params": unflatten_tree(params | adapters)}, batch)
  np.testing.assert_array_equal(before, after)


def test_at_first_nothing_changes_compiled(hidden, params, adapters):
  np.testing.assert_allclose(hidden(params), hidden(params | adapters), atol=2e-6)


def test_merged_is_unmerged(hidden, params, adapters):
  leaves = params | moved(adapters)
  merged = hidden(merge_leaves(leaves))
  apart = hidden(leaves)
  np.testing.assert_allclose(apart, merged, atol=1e-5)
  assert abs(apart - hidden(params)).max() > 0.1


def test_the_scale_is_not_rounded_to_half_precision():
  """alpha / rank = 2/3 has an error of 0.2 % in bfloat16, and merged kernels have none."""
  dense = layers.Dense(64, use_bias=False, dtype="bfloat16")
  factors = {lora.A: jax.random.normal(jax.random.key(0), (8, 2)), lora.KERNEL: jnp.zeros((8, 64))}
  factors[lora.B] = jax.random.normal(jax.random.key(1), (2, 64))
  x = jax.random.normal(jax.random.key(2), (4, 8), "bfloat16")
  scale = np.float32(2 / 3)
  unscaled, scaled = (
    dense.apply({"params": factors | {lora.SCALE: jnp.float32(number)}}, x) for number in (1, scale)
  )
  expected = (np.asarray(unscaled, np.float32) * scale).astype(unscaled.dtype)
  np.testing.assert_array_equal(scaled, expected)


def test_prefill_and_decoding_have_them_too(model, params, adapters):
  """The cache path of the llm, whose methods are others than training's."""
  leaves = params | moved(adapters)
  tokens = jnp.arange(8)[None]

  @jax.jit
  def read(leaves):
    variables = {"params": unflatten_tree(leaves)}
    cache = model.apply(variables, 1, 8, method=lambda model, *sizes: model.llm.empty_cache(*sizes))
    states, _ = model.apply(variables, tokens, tokens, cache, method="extend")
    return states

  np.testing.assert_allclose(read(leaves), read(merge_leaves(leaves)), atol=1e-5)
  assert abs(read(leaves) - read(params)).max() > 0.1


def test_dropout_is_of_training_alone(model, params, adapters, batch):
  variables = {"params": unflatten_tree(params | moved(adapters))}
  rngs = {lora.DROPOUT_STREAM: jax.random.key(0)}
  plain = jax.jit(model.apply)(variables, batch, rngs=rngs)
  np.testing.assert_array_equal(plain, jax.jit(model.apply)(variables, batch))
  with lora.input_dropout(0.5):
    # Another function than above, so that it is traced anew.
    dropped = jax.jit(functools.partial(model.apply))(variables, batch, rngs=rngs)
  assert abs(dropped - plain).max() > 0.01


def test_dropout_keeps_the_mean():
  x = jnp.ones((64, 64))
  kept = lora._drop(x, 0.25, jax.random.key(0))
  assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)}
  assert abs(float(kept.mean()) - 1) < 0.05


@pytest.mark.parametrize("kind, tolerance", [("int8", 0.01), ("nf4", 0.12)])
def test_codes_stand_for_a_kernel(kind, tolerance, kernels, params):
  pytest.importorskip("qwix")
  for path, kernel in quantised.quantised_kernels(kernels).items():
    codes = quantised.quantise(params[path], kernel, kind)
    shapes = quantised.code_shapes(kernel, kind)
    assert {name: (x.shape, x.dtype) for name, x in codes.items()} == {
      name: (shape.shape, shape.dtype) for name, shape in shapes.items()
    }
    restored = quantised.dequantise(*codes.values(), kernel.inputs + 1)
    error = jnp.linalg.norm(restored - params[path]) / jnp.linalg.norm(params[path])
    assert error < tolerance, path


@pytest.mark.parametrize("kind", quantised.KINDS)
def test_a_model_runs_on_codes(kind, kernels, params, hidden):
  """The same as on the kernels that the codes stand for."""
  pytest.importorskip("qwix")
  coded = dict(params)
  restored = dict(params)
  for path, kernel in quantised.quantised_kernels(kernels).items():
    codes = quantised.quantise(coded.pop(path), kernel, kind)
    for name, x in codes.items():
      coded[path.removesuffix(lora.KERNEL) + name] = x
    restored[path] = quantised.dequantise(*codes.values(), kernel.inputs + 1)
  np.testing.assert_allclose(hidden(coded), hidden(restored), atol=1e-5)


def test_they_lie_as_their_kernels(config, model, kernels):
  table = components.dims_table(config.model)
  for path, kernel in kernels.items():
    layout = rules.parameter_spec(table, path, kernel.shape)
    inputs = layout[len(kernel.stack) :][: kernel.inputs]
    outputs = layout[len(kernel.stack) + kernel.inputs :]
    layers = (None,) * len(kernel.stack)
    a, b, scale = (
      rules.parameter_spec(table, lora.adapter_name(path, name), shape.shape)
      for name, shape in lora.adapter_shapes(kernel, 2).items()
    )
    assert a == jax.P(*layers, *inputs, None)
    assert b == jax.P(*layers, None, *outputs)
    assert scale == jax.P(*layers)
    codes = lora.adapter_name(path, quantised.CODES)
    assert rules.parameter_spec(table, codes, kernel.shape) == layout


@pytest.mark.parametrize(
  "rules_of_ranks, message",
  [
    ((("^llm/", 4), ("llm/lm_head", 4)), "'llm/lm_head' of config.lora.ranks has no effect"),
    ((("attention", 4),), "'attention' of config.lora.ranks has no effect"),
    ((("k_proj", 17),), "the rank 17, above its width of 16"),
  ],
)
def test_ranks_that_do_not_fit(rules_of_ranks, message, kernels):
  with pytest.raises(ValueError, match=message):
    lora.chosen_ranks(rules_of_ranks, kernels)


def test_rank_zero_leaves_out(kernels):
  ranks = lora.chosen_ranks((("down_proj", 0), ("^llm/layers/mlp", 8)), kernels)
  assert ranks == {
    "llm/layers/mlp/gate_proj/kernel": 8,
    "llm/layers/mlp/up_proj/kernel": 8,
  }


def test_a_quantised_base_without_adapters_is_refused(model):
  with pytest.raises(ValueError, match=r"config\.lora\.base=nf4 .* would be trained itself"):
    adapted.adaptation(model, dict(ranks=(), base="nf4"))
