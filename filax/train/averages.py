# SPDX-License-Identifier: Apache-2.0
"""Averages of the trained parameters over the updates.

config.optim.ema keeps an exponential moving average in float32, laid out as the parameters. After
update n (counted from 1) the average becomes d · average + (1 - d) · parameter, where d is the
smaller of config.optim.ema and (1 + n) / (10 + n). With this warm-up, which is that of
tf.train.ExponentialMovingAverage, the first values are soon forgotten, also in short runs.

config.optim.kind="schedule_free" stores no average: it is computed from the optimizer's state.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from optax import contrib

from filax.parallel import rules
from filax.train.optim import Optimizer, merge_params
from filax.train.state import TrainState


def next_average(optimizer: Optimizer, average: PyTree, trainable: PyTree, number: Any) -> PyTree:
  """The average after update `number` (int32 []); None without one."""
  if average is None:
    return None
  share = jnp.maximum(1 - optimizer.ema, 9 / (10 + number))

  def averaged(mean, x):
    return mean + share * (x.astype(mean.dtype) - mean)

  return jax.tree.map(averaged, average, trainable)


def average_of(optimizer: Optimizer, state: TrainState) -> PyTree:
  """The average of the trained parameters, in float32; None without one."""
  if isinstance(state.opt, contrib.ScheduleFreeState):
    trainable, _ = optimizer.split_params(state.params)
    return contrib.schedule_free_eval_params(state.opt, trainable)
  return state.average


def make_saved_state(optimizer: Optimizer, like: TrainState) -> Callable[[TrainState], TrainState]:
  """Returns a function: state -> the state to save, with its average.

  like: shapes and shardings of the state.
  """
  if not _follows_from_state(like):
    return _unchanged
  trainable, _ = optimizer.split_params(like.params)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, trainable)
  derive = jax.jit(functools.partial(average_of, optimizer), out_shardings=shardings)

  def with_average(state):
    return dataclasses.replace(state, average=derive(state))

  return with_average


def make_answering_params(optimizer: Optimizer, like: TrainState) -> Callable[[TrainState], PyTree]:
  """Returns a function: state -> the parameters to answer with.

  Averages stand for what is trained, in the dtypes of the parameters.
  """
  if like.average is None and not _follows_from_state(like):
    return _trained_params

  @jax.jit
  def trainable_part(state):
    trainable, _ = optimizer.split_params(state.params)
    average = average_of(optimizer, state)
    return jax.tree.map(lambda mean, x: mean.astype(x.dtype), average, trainable)

  def answering_params(state):
    _, frozen = optimizer.split_params(state.params)
    return merge_params(trainable_part(state), frozen)

  return answering_params


def copied_bytes(optimizer: Optimizer, like: TrainState) -> float:
  """Bytes on each device of what `make_answering_params` computes anew."""
  trainable, _ = optimizer.split_params(like.params)
  leaves = jax.tree.leaves(trainable)
  if like.average is not None:  # float32 averages of float32 parameters are taken as they are.
    leaves = [leaf for leaf in leaves if leaf.dtype != jnp.float32]
  elif not _follows_from_state(like):
    leaves = []
  return rules.device_bytes(leaves)


def _follows_from_state(like: TrainState) -> bool:
  return isinstance(like.opt, contrib.ScheduleFreeState)


def _unchanged(state: TrainState) -> TrainState:
  return state


def _trained_params(state: TrainState) -> PyTree:
  return state.params
