# SPDX-License-Identifier: Apache-2.0
"""Training runs of FiLax: its own jitted step, and first parameters one ulp away."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.learning.recipe import Recipe
from benchmarks.learning.twin import Batch
from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.train import batches, setup


class FilaxRun:
  """A training run of FiLax.

  program: the jitted step, which several runs may share.
  """

  def __init__(self, recipe: Recipe, program: Any, params: Any):
    self._setup = recipe.setup
    self._program = program
    state = setup.complete_state(recipe.config["seed"], recipe.setup, params)
    self._state = dataclasses.replace(state, params=_copied(params))

  @property
  def params(self) -> Any:
    """The parameters after the steps so far."""
    return self._state.params

  def step(self, batch: Batch) -> dict[str, float]:
    """Loss and gradient norm, before the update that it makes."""
    with jax.set_mesh(self._setup.mesh):
      placed = batches.place_batch(batch, self._setup.mesh)
      self._state, metrics = self._program(self._state, placed)
    return dict(loss=float(metrics["loss"]), grad_norm=float(metrics["grad_norm"]))


def one_ulp_away(params: Any, path: str) -> tuple[Any, float, float]:
  """(parameters, weight before, weight after).

  The largest weight of `path` becomes the next larger number.
  """
  leaves = flatten_tree(params)
  values = np.array(leaves[path])
  place = np.unravel_index(values.argmax(), values.shape)
  before = values[place]
  values[place] = np.nextafter(before, np.float32(np.inf))
  leaves[path] = jax.device_put(values, leaves[path].sharding)
  return unflatten_tree(leaves), float(before), float(values[place])


def _copied(params: Any) -> Any:
  """A copy, because a step reuses the memory of its parameters."""
  return jax.tree.map(jnp.copy, params)
