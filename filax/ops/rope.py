# SPDX-License-Identifier: Apache-2.0
"""Rotary positions in the half convention of Llama and Qwen2, with YaRN. Angles in float32."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np


def frequencies(
  head_dim: int, theta: float, yarn: tuple[float, int] | None = None
) -> tuple[np.ndarray, float]:
  """Inverse frequencies float32 [d/2] and the factor on cos and sin.

  `yarn` = (factor, trained positions) stretches the low frequencies (YaRN, arXiv:2309.00071, with
  beta 32 and 1); then the factor is 0.1 ln(factor) + 1, else 1.
  """
  half = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
  plain = theta**-half
  if yarn is None:
    return plain.astype(np.float32), 1.0
  factor, trained = yarn
  turns = lambda beta: (
    head_dim * math.log(trained / (beta * 2 * math.pi)) / (2 * math.log(theta)))
  low, high = max(math.floor(turns(32)), 0), min(math.ceil(turns(1)), head_dim - 1)
  ramp = np.clip((np.arange(head_dim // 2) - low) / max(high - low, 1e-3), 0, 1)
  stretched = plain / factor * ramp + plain * (1 - ramp)
  return stretched.astype(np.float32), 0.1 * math.log(factor) + 1.0


def angles(
  positions: Int[Array, "B L"], inverse: np.ndarray, factor: float = 1.0
) -> tuple[Float[Array, "B L 1 c"], Float[Array, "B L 1 c"]]:
  """cos and sin of every position, c = d/2, with an axis for the heads."""
  angle = positions[:, :, None, None].astype(jnp.float32) * inverse
  return jnp.cos(angle) * factor, jnp.sin(angle) * factor


def rotate(x: Float[Array, "B L H d"], cos, sin) -> Float[Array, "B L H d"]:
  """Turns the two halves of each head by the angles."""
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
