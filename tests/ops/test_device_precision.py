# SPDX-License-Identifier: Apache-2.0
"""Products of float32 numbers ask for full precision.

By default, a TPU rounds their factors to bfloat16, and a GPU to TensorFloat-32. No CPU does, and
other tests ask for full precision as a whole, so that none of them would notice.
"""

from collections.abc import Callable, Iterator

import jax
from jax import lax
import jax.numpy as jnp
import pytest

from filax.models import lora
from filax.ops import bipartite, history, kmeans, losses, pooling, tome, visual_dropout

FRAMES = jnp.ones((12, 8))
MASK = jnp.ones(12, bool)
ROWS = jnp.ones((2, 12))
SEGMENTS = jnp.ones((2, 12), jnp.int32)
PLACES = (SEGMENTS, SEGMENTS)
HEADS = jnp.ones((2, 12, 4, 8))
A, B, SCALE = jnp.ones((8, 2)), jnp.ones((2, 8)), jnp.ones(())


def sample_mean(nll):
  return losses.sample_mean(nll, ROWS, SEGMENTS, 3)[0]


FUNCTIONS: dict[str, Callable] = {
  "loss by sample": lambda: jax.value_and_grad(sample_mean)(ROWS),
  "merged adapters": lambda: lora.merge_kernel(jnp.ones((8, 8)), A, B, SCALE),
  "K-Means": lambda: kmeans.scene_frames(FRAMES, MASK, 3),
  "frames of scenes": lambda: history.supplement(FRAMES, MASK, jnp.array([5, 11]), 3),
  "matched frames": lambda: bipartite.select_frames(FRAMES, MASK, 2, 3),
  "matched tokens": lambda: bipartite.merge_tokens(FRAMES, 4),
  "token merging": lambda: tome.match(FRAMES[None], heads=2),
  "pooling": lambda: pooling.bilinear(FRAMES, (3, 4)),
  "attention to places": lambda: visual_dropout.attention_scores(HEADS, HEADS, PLACES, PLACES),
}


def float32_products(function: Callable) -> Iterator[tuple[str, object]]:
  """(what is multiplied, its precision) of all products of float32 in a program."""
  with jax.default_matmul_precision(None):
    jaxpr = jax.make_jaxpr(function)()
  for equation in _equations(jaxpr.jaxpr):
    if equation.primitive is lax.dot_general_p:
      shapes = [variable.aval for variable in equation.invars]
      if all(shape.dtype == jnp.float32 for shape in shapes):
        yield " x ".join(map(str, shapes)), equation.params["precision"]


def _equations(jaxpr) -> Iterator:
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
      if _is_program(inner):
        yield from _equations(getattr(inner, "jaxpr", inner))


def _is_program(x) -> bool:
  return hasattr(x, "eqns") or hasattr(x, "jaxpr")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_products_are_exact(name):
  products = list(float32_products(FUNCTIONS[name]))
  assert products
  for factors, precision in products:
    assert precision == (lax.Precision.HIGHEST,) * 2, factors
