# SPDX-License-Identifier: Apache-2.0
"""Adapters over packed rows with visual dropout: what training computes with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.models import adapted, lora
from filax.models.components import build_video_lm
from filax.testing import packed_rows
from filax.testing.random_parameters import random_parameters
from filax.train import step
from tests.models.merged_leaves import merge_leaves

pytestmark = pytest.mark.slow

RANKS = (("", 2),)


@pytest.fixture(scope="module")
def model():
  return build_video_lm(packed_rows.FLASH)


@pytest.fixture(scope="module")
def batch(model):
  rows = packed_rows.sample_rows(2)
  return jax.tree.map(jnp.asarray, packed_rows.packed_batch(model.layout(), rows))


@pytest.fixture(scope="module")
def leaves(model):
  """Random parameters, and adapters of all kernels whose B is not zero."""
  adaptation = adapted.adaptation(model, dict(ranks=RANKS, alpha=2.0, dropout=0.1, base="same"))
  drawn = adaptation.draw_adapters(0)
  for number, (path, x) in enumerate(drawn.items()):
    if path.endswith(lora.B):
      drawn[path] = 0.1 * jax.random.normal(jax.random.key(number), x.shape)
  return flatten_tree(random_parameters(model, 0)) | drawn


def test_losses_are_those_of_merged_kernels(model, batch, leaves):
  loss = jax.jit(step.make_loss(model, chunk=16))
  key = jax.random.key(0)
  apart, _ = loss(unflatten_tree(leaves), batch, key)
  merged, _ = loss(unflatten_tree(merge_leaves(leaves)), batch, key)
  np.testing.assert_allclose(apart, merged, rtol=1e-5)
  base = {path: x for path, x in leaves.items() if not lora.is_adapter(path)}
  without, _ = loss(unflatten_tree(base), batch, key)
  assert abs(without - apart) > 1e-3


def test_training_drops_inputs_of_adapters(model, batch, leaves):
  loss = jax.jit(step.make_loss(model, chunk=16, dropout=0.5))
  first, _ = loss(unflatten_tree(leaves), batch, jax.random.key(0))
  second, _ = loss(unflatten_tree(leaves), batch, jax.random.key(1))
  assert abs(first - second) > 1e-3


@pytest.mark.long
def test_every_adapter_learns_with_input_dropout(model, batch, leaves):
  """A gradient reaches A and B of every kernel, through all ranges of layers."""
  loss = step.make_loss(model, chunk=16, dropout=0.1)

  def total(params):
    return loss(params, batch, jax.random.key(0))[0]

  grads = flatten_tree(jax.jit(jax.grad(total))(unflatten_tree(leaves)))
  kernels = lora.adapted_kernels(leaves)
  assert len(kernels) > 12
  for kernel in kernels:
    for name in (lora.A, lora.B):
      grad = np.asarray(grads[lora.adapter_name(kernel, name)])
      layers = len(grad) if "/layers/" in kernel else 1
      largest = abs(grad.reshape(layers, -1)).max(1)
      assert (largest > 0).all(), (kernel, name, largest)
