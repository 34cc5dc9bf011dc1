# SPDX-License-Identifier: Apache-2.0
"""Training runs of FiLax: its own jitted step, and first parameters one ulp away."""

import dataclasses
import re
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

  def step(self, batch: Batch) -> dict[str, float]:
    """Loss and gradient norm, before the update that it makes."""
    with jax.set_mesh(self._setup.mesh):
      placed = batches.place_batch(batch, self._setup.mesh)
      self._state, metrics = self._program(self._state, placed)
    loss = float(metrics["loss"])
    norm = float(metrics["grad_norm"])
    return dict(loss=loss, grad_norm=norm)


@dataclasses.dataclass(frozen=True)
class Nudge:
  """A weight that differs by one unit in its last place."""

  path: str
  before: float
  after: float


def one_ulp_away(params: Any, pattern: str) -> tuple[Any, Nudge]:
  """Parameters of which one weight is the next larger number.

  It is the largest one of the first path that matches `pattern`.
  """
  leaves = flatten_tree(params)
  path = next(path for path in leaves if re.search(pattern, path))
  values = np.array(leaves[path])
  place = np.unravel_index(values.argmax(), values.shape)
  before = values[place]
  after = np.nextafter(before, np.float32(np.inf))
  values[place] = after
  sharding = leaves[path].sharding
  leaves[path] = jax.device_put(values, sharding)
  nudge = Nudge(path, float(before), float(after))
  return unflatten_tree(leaves), nudge


def _copied(params: Any) -> Any:
  """A copy, because a step reuses the memory of its parameters."""
  return jax.tree.map(jnp.copy, params)
