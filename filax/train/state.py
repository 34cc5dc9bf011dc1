# SPDX-License-Identifier: Apache-2.0
"""The training state: step, parameters, optimizer state, random key."""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from filax.train.optim import Optimizer


@struct.dataclass
class TrainState:
  """The content of a checkpoint, beside the row number of the data.

  Also used as a tree of shapes or of shardings, so the fields name no array type.
  """

  step: PyTree  # int32 []: updates done.
  params: PyTree  # The whole model, frozen parts included.
  opt: PyTree  # The optimizer's state: moments of the trainable leaves.
  rng: PyTree  # uint32: the key data of the run; step n folds n into it.


def create_state(params: PyTree, optimizer: Optimizer, seed: int) -> TrainState:
  """The state before the first step."""
  rng = jax.random.key_data(jax.random.fold_in(jax.random.key(seed), 1))
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt=optimizer.init(params),
    rng=rng,
  )


def state_shardings(params: PyTree, layout: PyTree, optimizer: Optimizer, rest: Any) -> TrainState:
  """Shardings of the state.

  Parameters lie as in `layout`, moments as their parameters, everything else as `rest`.
  """
  return TrainState(
    step=rest, params=layout, opt=optimizer.opt_shardings(params, layout, rest), rng=rest
  )
