# SPDX-License-Identifier: Apache-2.0
"""Random parameters with a large spread, so that a tiny model's logits differ clearly."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from filax.models.components import parameter_shapes

SPREAD = 0.2


def random_parameters(model: Any, seed: int = 0) -> Any:
  """Normal values for every parameter of a VideoLM.

  The model's initialisers are not used.
  """
  shapes = parameter_shapes(model)
  rng = np.random.default_rng(seed)

  def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.asarray(rng.normal(0, SPREAD, leaf.shape), leaf.dtype)

  return jax.tree.map(draw, shapes)
