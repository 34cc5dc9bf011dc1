# SPDX-License-Identifier: Apache-2.0
"""The training state: step, parameters, optimizer state, random key, averages."""

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
  average: PyTree = None  # float32: averages of the trainable leaves, by config.optim.ema.


def create_state(params: PyTree, optimizer: Optimizer, seed: int) -> TrainState:
  """The state before the first step."""
  rng = jax.random.key_data(jax.random.fold_in(jax.random.key(seed), 1))
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt=optimizer.init(params),
    rng=rng,
    average=optimizer.first_average(params),
  )


def state_shardings(params: PyTree, layout: PyTree, optimizer: Optimizer, rest: Any) -> TrainState:
  """Shardings of the state.

  Parameters lie as in `layout`, moments and averages as their parameters, everything else as
  `rest`.
  """
  trainable_layout, _ = optimizer.split_params(layout)
  return TrainState(
    step=rest,
    params=layout,
    opt=optimizer.opt_shardings(params, layout, rest),
    rng=rest,
    average=trainable_layout if optimizer.ema else None,
  )
