# SPDX-License-Identifier: Apache-2.0
"""Training runs of FiLax, and the change of one weight by one ulp."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.learning.recipe import RunRecipe
from benchmarks.learning.twin import Batch, MergingRound
from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.ops import tome
from filax.train import batches, setup


class FilaxRun:
  """A training run of FiLax.

  program: the jitted train step. Several runs may share one.
  """

  def __init__(self, recipe: RunRecipe, program: Any, params: Any):
    self._setup = recipe.setup
    self._program = program
    state = setup.complete_state(recipe.config["seed"], recipe.setup, params)
    self._state = dataclasses.replace(state, params=_copied(params))

  def step(self, batch: Batch) -> dict[str, float]:
    """Makes a step; returns loss and gradient norm from before the update."""
    with jax.set_mesh(self._setup.mesh):
      placed = batches.place_batch(batch, self._setup.mesh)
      self._state, metrics = self._program(self._state, placed)
    loss = float(metrics["loss"])
    norm = float(metrics["grad_norm"])
    return dict(loss=loss, grad_norm=norm)

  def merged_pairs(self, batch: Batch) -> list[MergingRound]:
    """The pairs of tokens that the next step on a batch merges."""
    rounds = choose_pairs(self._setup.model, self._state.params, batch["frames"])
    return jax.device_get(rounds)


@functools.partial(jax.jit, static_argnums=0)
def choose_pairs(model: Any, params: Any, frames: jax.Array) -> list[MergingRound]:
  """The pairs that token merging chooses, round by round.

  frames uint8 [R T h w 3].
  """
  clip = model.encoder.clip
  features = model.apply({"params": params}, frames, clip, method="encode_frames")  # [R T N E]
  _, _, tokens_per_frame, width = features.shape
  x = features.reshape(-1, clip * tokens_per_frame, width)  # [clips, tokens of a clip, E]
  size = jnp.ones(x.shape[:2])
  heads = model.merger.heads
  rounds = []
  tokens_after_merging = clip * model.merger.tokens
  for count in tome.schedule(x.shape[1], tokens_after_merging):
    similarity, partner = tome.match(x, heads)
    order = jnp.argsort(-similarity, axis=1, stable=True)
    rounds.append(MergingRound(count, partner, order))
    x, size = tome.merge_iteration(x, size, count, heads)
  return rounds


@dataclasses.dataclass(frozen=True)
class Nudge:
  """A weight before and after a change by one ulp."""

  path: str
  before: float
  after: float


def one_ulp_away(params: Any, path: str) -> tuple[Any, Nudge]:
  """Changes one weight by one ulp.

  The largest weight of the array at `path` becomes the next larger float32. Returns the changed
  parameters and the change.
  """
  leaves = flatten_tree(params)
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
  """A copy of the parameters.

  A step donates its input, so its memory is reused.
  """
  return jax.tree.map(jnp.copy, params)
