# SPDX-License-Identifier: Apache-2.0
"""The kinds of optimizers: their first updates, their state, and runs that resume with them."""

import jax
import jax.numpy as jnp
import numpy as np
from optax import contrib
import pytest

from filax.models.lora import DenseKernel
from filax.train import optim, optimisers

PARAMS = {
  "llm": {
    "layers": {"q_proj": {"kernel": jnp.ones((2, 6, 2, 4)), "bias": jnp.ones((2, 2, 4))}},
    "embed_tokens": {"embedding": jnp.ones((256, 128))},
  }
}
KERNELS = {"llm/layers/q_proj/kernel": DenseKernel((2, 6, 2, 4), inputs=1, stacked=True)}
OPTIM = dict(
  rates=(("", 1e-2),),
  decay=(("", 0.0),),
  warmup=0.0,
  final=1.0,
  b1=0.9,
  b2=0.95,
  eps=1e-8,
  clip=0.0,
)


def first_update(kind, grads):
  optimizer = optim.make_optimizer(OPTIM | dict(kind=kind), PARAMS, 10, KERNELS)
  updates, state = jax.jit(optimizer.transform.update)(grads, optimizer.init(PARAMS), PARAMS)
  return optimizer, updates, state


def random_gradients(seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), PARAMS)


def test_lion_moves_every_weight_by_the_rate():
  _, updates, _ = first_update("lion", random_gradients())
  for update in jax.tree.leaves(updates):
    np.testing.assert_allclose(np.abs(update), 1e-2, rtol=1e-6)


def test_lion_follows_its_paper():
  """arXiv:2302.06675, Algorithm 2, in float64: b1 is of the update, b2 of the moment."""
  optimizer = optim.make_optimizer(OPTIM | dict(kind="lion", b1=0.5), PARAMS, 10, KERNELS)
  state = optimizer.init(PARAMS)
  moment = 0.0
  for seed in range(3):
    grads = random_gradients(seed)
    updates, state = optimizer.transform.update(grads, state, PARAMS)
    grad = np.asarray(grads["llm"]["layers"]["q_proj"]["bias"], np.float64)
    direction = np.sign(0.5 * moment + 0.5 * grad)
    moment = 0.95 * moment + 0.05 * grad
    update = updates["llm"]["layers"]["q_proj"]["bias"]
    np.testing.assert_allclose(update, -1e-2 * direction, rtol=1e-6)


def test_muon_orthogonalises_each_layer_of_a_kernel_over_its_inputs():
  _, updates, _ = first_update("muon", random_gradients())
  kernel = np.asarray(updates["llm"]["layers"]["q_proj"]["kernel"]).reshape(2, 6, 8)
  for layer in kernel:
    values = np.linalg.svd(layer, compute_uv=False) / (1e-2 * 0.2 * np.sqrt(8))
    assert values.min() > 0.5 and values.max() < 1.3  # Five Newton-Schulz steps reach about 1.


def test_muon_takes_all_input_axes_together():
  """An output projection [heads head_dim outputs] is a matrix of 12 inputs and 96 outputs."""
  shape = (2, 3, 4, 96)
  params = {"o_proj": {"kernel": jnp.ones(shape)}}
  kernels = {"o_proj/kernel": DenseKernel(shape, inputs=2, stacked=True)}
  optimizer = optim.make_optimizer(OPTIM | dict(kind="muon"), params, 10, kernels)
  grads = {"o_proj": {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=shape))}}
  updates, _ = optimizer.transform.update(grads, optimizer.init(params), params)
  for layer in np.asarray(updates["o_proj"]["kernel"]).reshape(2, 12, 96):
    values = np.linalg.svd(layer, compute_uv=False) / (1e-2 * 0.2 * np.sqrt(96))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_the_moment_of_muon_decays_by_b1():
  """With b1 = 0, an update is that of its gradient alone."""
  optimizer = optim.make_optimizer(OPTIM | dict(kind="muon", b1=0.0), PARAMS, 10, KERNELS)
  update = jax.jit(optimizer.transform.update)
  alone, _ = update(random_gradients(1), optimizer.init(PARAMS), PARAMS)
  _, state = update(random_gradients(0), optimizer.init(PARAMS), PARAMS)
  after_another, _ = update(random_gradients(1), state, PARAMS)
  kernels = [tree["llm"]["layers"]["q_proj"]["kernel"] for tree in (alone, after_another)]
  np.testing.assert_allclose(*kernels, rtol=1e-5)


def test_muon_leaves_tables_and_biases_to_adam():
  _, updates, _ = first_update("muon", random_gradients())
  for update in (
    updates["llm"]["embed_tokens"]["embedding"],
    updates["llm"]["layers"]["q_proj"]["bias"],
  ):
    np.testing.assert_allclose(np.abs(update), 1e-2, rtol=1e-3)


def test_adafactor_keeps_rows_and_columns_of_large_matrices():
  _, updates, state = first_update("adafactor", random_gradients())
  table = PARAMS["llm"]["embed_tokens"]["embedding"]
  shapes = [leaf.shape for leaf in jax.tree.leaves(state) if leaf.size > 100]
  assert shapes and table.shape not in shapes
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


def test_adafactor_limits_the_size_of_an_update():
  optimizer, _, state = first_update("adafactor", random_gradients())
  larger = jax.tree.map(lambda x: 100 * x, random_gradients(1))
  updates, _ = optimizer.transform.update(larger, state, PARAMS)
  for update in jax.tree.leaves(updates):
    size = np.sqrt(np.square(update, dtype=np.float64).mean())
    np.testing.assert_allclose(size, 1e-2, rtol=1e-4)


@pytest.mark.parametrize("kind", optimisers.KINDS)
def test_every_moment_lies_as_its_parameter(kind):
  """Muon has moments of matrices alone, and Adam beside it those of the rest."""
  optimizer = optim.make_optimizer(OPTIM | dict(kind=kind), PARAMS, 10, KERNELS)
  state = jax.eval_shape(optimizer.init, PARAMS)
  layout = jax.tree.map(lambda leaf: f"as {leaf.shape}", PARAMS)
  shardings = optimizer.opt_shardings(PARAMS, layout, "rest")
  assert jax.tree.structure(shardings) == jax.tree.structure(state)
  shapes = {leaf.shape for leaf in jax.tree.leaves(PARAMS)}
  for leaf, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
    assert sharding == (f"as {leaf.shape}" if leaf.shape in shapes else "rest")


@pytest.mark.parametrize("kind", optimisers.KINDS)
def test_every_kind_lowers_a_square(kind):
  optimizer = optim.make_optimizer(OPTIM | dict(kind=kind), PARAMS, 40, KERNELS)
  params = PARAMS
  state = optimizer.init(params)

  @jax.jit
  def step(params, state):
    grads = jax.tree.map(lambda x: 2 * x, params)
    updates, state = optimizer.transform.update(grads, state, params)
    return jax.tree.map(jnp.add, params, updates), state

  before = sum(float(jnp.square(x).sum()) for x in jax.tree.leaves(params))
  for _ in range(40):
    params, state = step(params, state)
  after = sum(float(jnp.square(x).sum()) for x in jax.tree.leaves(params))
  assert after < 0.7 * before


@pytest.mark.parametrize("warmup", [0, 4])
def test_schedule_free_averages_the_iterates_of_adam_without_momentum(warmup):
  """In float64: x is the mean of z, weighted by squares of the rate; gradients are taken at y."""
  rates = (("bias", 1e-2), ("", 3e-2))
  settings = OPTIM | dict(kind="schedule_free", rates=rates, warmup=warmup)
  optimizer = optim.make_optimizer(settings, PARAMS, 10, KERNELS)
  params = PARAMS
  state = optimizer.init(params)
  path = ("llm", "layers", "q_proj", "bias")
  z = x = np.ones(PARAMS["llm"]["layers"]["q_proj"]["bias"].shape)
  moment = np.zeros_like(z)
  weights = []
  update = jax.jit(optimizer.transform.update)
  for number in range(1, 6):
    grads = random_gradients(number)
    updates, state = update(grads, state, params)
    params = jax.tree.map(jnp.add, params, updates)
    grad = np.asarray(grads["llm"]["layers"]["q_proj"]["bias"], np.float64)
    moment = 0.95 * moment + 0.05 * grad**2
    rate = 1e-2 * min(1.0, (number - 1) / warmup) if warmup else 1e-2
    z = z - rate * grad / (np.sqrt(moment / (1 - 0.95**number)) + 1e-8)
    weights.append(min(1.0, number / warmup) ** 2 if warmup else 1.0)
    x = x + (z - x) * weights[-1] / sum(weights)
    y = 0.1 * z + 0.9 * x
  average = contrib.schedule_free_eval_params(state, params)
  for expected, tree in ((x, average), (y, params), (z, state.z)):
    for key in path:
      tree = tree[key]
    np.testing.assert_allclose(tree, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(final=0.0), r"config\.optim\.final=0, but the rate .* Set config\.optim\.final=1\.0"),
    (dict(b1=0.0), r"config\.optim\.b1=0"),
    (dict(ema=0.999), r"config\.optim\.ema=0\.999 would average once more"),
  ],
)
def test_settings_that_schedule_free_excludes(changes, message):
  settings = OPTIM | dict(kind="schedule_free") | changes
  with pytest.raises(ValueError, match=message):
    optim.make_optimizer(settings, PARAMS, 10, KERNELS)


def test_schedule_free_trains_float32_alone():
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
  settings = OPTIM | dict(kind="schedule_free")
  with pytest.raises(ValueError, match=r"is bfloat16\. Set config\.model\.param_dtype=float32"):
    optim.make_optimizer(settings, params, 10, KERNELS)


def test_what_is_trained_is_stored_in_float32():
  """At a usual rate, bfloat16 rounds most updates away."""
  shapes = {
    "encoder": {"kernel": jax.ShapeDtypeStruct((64,), jnp.bfloat16)},
    "llm": {"kernel": jax.ShapeDtypeStruct((64,), jnp.bfloat16)},
  }
  settings = OPTIM | dict(rates=(("^encoder/", 0.0), ("", 1e-5)), decay=(("", 0.0),))
  stored = optim.float32_where_trained(settings, shapes)
  assert stored["encoder"]["kernel"].dtype == jnp.bfloat16
  assert stored["llm"]["kernel"].dtype == jnp.float32


def test_an_unknown_kind_names_the_known_ones():
  with pytest.raises(ValueError, match="adamw, lion, muon, adafactor"):
    optimisers.gradient_rule(OPTIM | dict(kind="sgd"), PARAMS, {})
