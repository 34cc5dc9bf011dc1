# SPDX-License-Identifier: Apache-2.0
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from filax.train import optim

PARAMS = {
  "encoder": {"layers": {"kernel": jnp.ones((2, 3, 4)), "bias": jnp.ones((2, 4))}},
  "projector": {"linear_1": {"kernel": jnp.ones((4, 4))}, "image_newline": jnp.ones((4,))},
  "llm": {"norm": {"scale": jnp.ones((4,), jnp.bfloat16)}},
}
PATHS = (
  "encoder/layers/kernel",
  "encoder/layers/bias",
  "projector/linear_1/kernel",
  "projector/image_newline",
  "llm/norm/scale",
)


def config(**changes):
  base = dict(
    rates=(("^encoder/", 0.0), ("image_newline$", 1e-2), ("^projector/", 1e-1), ("^llm/", 1e-3)),
    decay=(("kernel$", 0.5), ("", 0.0)),
    warmup=0.0,
    final=0.0,
    b1=0.9,
    b2=0.99,
    eps=1e-8,
    clip=0.0,
  )
  return base | changes


def test_first_match_wins():
  values = optim.assign_rules(config()["rates"], PATHS, "config.optim.rates")
  assert list(values.values()) == [0.0, 0.0, 1e-1, 1e-2, 1e-3]


@pytest.mark.parametrize(
  "rules, message",
  [
    ((("^encoder/", 1.0),), r"No row of config\.optim\.rates matches projector/linear_1.*\^proj"),
    ((("", 1.0), ("^merger/", 2.0)), r"'\^merger/' of config\.optim\.rates .* none of the 5"),
    ((("", 1.0), ("^llm/", 2.0)), r"'\^llm/' .* earlier rows take all .*llm/norm/scale"),
  ],
)
def test_uncovered_and_idle_rules_are_errors(rules, message):
  with pytest.raises(ValueError, match=message):
    optim.assign_rules(rules, PATHS, "config.optim.rates")


def test_all_frozen_is_an_error():
  with pytest.raises(ValueError, match="Every parameter is frozen"):
    optim.make_optimizer(config(rates=(("", 0.0),)), PARAMS, 10)


def test_frozen_leaves_have_no_memory():
  optimizer = optim.make_optimizer(config(), PARAMS, 10)
  trainable, frozen = optimizer.split_params(PARAMS)
  assert set(trainable) == {"projector", "llm"} and set(frozen) == {"encoder"}
  opt = optimizer.init(PARAMS)
  moments = [x for x in jax.tree.leaves(opt) if x.ndim]
  assert sum(x.size for x in moments) == 2 * sum(x.size for x in jax.tree.leaves(trainable))
  assert {x.dtype for x in moments} == {jnp.dtype("float32")}  # Also of the bfloat16 scale.
  assert jax.tree.structure(optim.merge_params(trainable, frozen)) == jax.tree.structure(PARAMS)


def test_every_group_moves_at_its_rate():
  """The first Adam update of any gradient is 1, so a leaf moves by its rate times (1 + decay)."""
  optimizer = optim.make_optimizer(config(), PARAMS, 10)
  trainable, _ = optimizer.split_params(PARAMS)
  grads = jax.tree.map(lambda x: jnp.full(x.shape, 3.0), trainable)
  updates, _ = optimizer.transform.update(grads, optimizer.init(PARAMS), trainable)
  np.testing.assert_allclose(updates["projector"]["linear_1"]["kernel"], -0.1 * 1.5, rtol=1e-5)
  np.testing.assert_allclose(updates["projector"]["image_newline"], -0.01, rtol=1e-5)
  np.testing.assert_allclose(updates["llm"]["norm"]["scale"], -0.001, rtol=1e-5)
  assert optax.apply_updates(trainable, updates)["llm"]["norm"]["scale"].dtype == jnp.bfloat16


def test_clipping_is_by_the_norm_of_what_is_trained():
  optimizer = optim.make_optimizer(config(clip=1.0, b1=0.0), PARAMS, 10)
  trainable, _ = optimizer.split_params(PARAMS)
  grads = jax.tree.map(lambda x: jnp.full(x.shape, 100.0), trainable)
  _, opt = optimizer.transform.update(grads, optimizer.init(PARAMS), trainable)
  mu = next(s.mu for s in opt if isinstance(s, optax.ScaleByAdamState))
  np.testing.assert_allclose(optax.tree.norm(mu), 1.0, rtol=1e-5)


@pytest.mark.parametrize("warmup, rise", [(0.03, 4), (7, 7), (0.0, 0)])
def test_schedule(warmup, rise):
  steps, final = 110, 0.1
  shape = optim.warmup_cosine(steps, warmup, final)
  for n in (0, 1, rise, rise + 1, 50, 109, 110, 200):
    share = (min(n, steps) - rise) / (steps - rise)
    cosine = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share))
    np.testing.assert_allclose(shape(jnp.int32(n)), n / rise if n < rise else cosine, atol=1e-6)


def test_warm_up_that_never_ends_is_an_error():
  with pytest.raises(ValueError, match=r"warm-up of 50 steps .* config\.optim\.warmup"):
    optim.warmup_cosine(50, 50)


def test_learning_rates_have_names():
  rates = optim.make_optimizer(config(), PARAMS, 10).learning_rates(jnp.int32(0))
  assert rates.keys() == {"image_newline", "projector", "llm"}
  np.testing.assert_allclose(rates["projector"], 0.1)


def test_moments_are_laid_out_like_parameters():
  optimizer = optim.make_optimizer(config(), PARAMS, 10)
  layout = jax.tree_util.tree_map_with_path(lambda path, _: jax.tree_util.keystr(path), PARAMS)
  got = optimizer.opt_shardings(PARAMS, layout, "rest")
  adam = next(s for s in got if isinstance(s, optax.ScaleByAdamState))
  assert adam.nu == optimizer.split_params(layout)[0] and adam.count == "rest"
