# SPDX-License-Identifier: Apache-2.0
"""All that a run is between two steps."""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from filax.train.optim import Optimizer


@struct.dataclass
class TrainState:
  """With the row number of the data this is what a checkpoint holds. Also held as shapes and as
  shardings, so the fields name no array type."""

  step: PyTree  # int32 []: updates done.
  params: PyTree  # The whole model, frozen parts included.
  opt: PyTree  # The optimizer's state: moments of the trainable leaves.
  rng: PyTree  # uint32: the key data of the run; step n folds n into it.


def create(params: PyTree, optimizer: Optimizer, seed: int) -> TrainState:
  """The state before the first step."""
  rng = jax.random.key_data(jax.random.fold_in(jax.random.key(seed), 1))
  return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), rng)


def shardings(params: PyTree, layout: PyTree, optimizer: Optimizer, rest: Any) -> TrainState:
  """Shardings of the state: parameters as `layout`, moments as their parameters, others `rest`."""
  return TrainState(rest, layout, optimizer.shardings(params, layout, rest), rest)
