# SPDX-License-Identifier: Apache-2.0
"""Rotary positions in the half convention of Llama and Qwen2, with YaRN.

Angles are float32.
"""

from collections.abc import Mapping
import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

YARN_KEYS = (  # Names as in transformers; missing options have their defaults.
  "attention_factor",
  "beta_fast",
  "beta_slow",
  "truncate",
  "mscale",
  "mscale_all_dim",
)


def frequencies(
  head_dim: int,
  theta: float,
  yarn: tuple | None = None,
) -> tuple[np.ndarray, float]:
  """Inverse frequencies float32 [d/2] and the factor on cos and sin.

  `yarn` = (factor, trained positions) stretches the low frequencies (YaRN, arXiv:2309.00071, with
  beta 32 and 1); then the factor is 0.1 ln(factor) + 1, else 1. A third member, pairs of YARN_KEYS
  and values, changes this as in transformers. Raises ValueError for another key.
  """
  exponent = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
  plain = theta**-exponent
  if yarn is None:
    return plain.astype(np.float32), 1.0
  factor, trained = yarn[:2]
  options = yarn_options(yarn)

  def dimension_of(turns: float | int) -> float:
    """The dimension with that many turns within the trained positions."""
    positions_of_turn = trained / (turns * 2 * math.pi)
    return head_dim * math.log(positions_of_turn) / (2 * math.log(theta))

  low = dimension_of(options.get("beta_fast") or 32)
  high = dimension_of(options.get("beta_slow") or 1)
  if options.get("truncate", True):
    low = math.floor(low)
    high = math.ceil(high)
  low = max(low, 0)
  high = min(high, head_dim - 1)
  width = high - low if high != low else 1e-3
  ramp = (np.arange(head_dim // 2) - low) / width
  ramp = np.clip(ramp, 0, 1)  # 0 for high frequencies, which stay, to 1 for low ones.
  stretched = plain / factor * ramp + plain * (1 - ramp)
  return stretched.astype(np.float32), _attention_factor(factor, options)


def llama3_frequencies(
  head_dim: int,
  theta: float,
  factor: float,
  low: float,
  high: float,
  trained: int,
) -> np.ndarray:
  """Inverse frequencies of the rope type "llama3", float32 [d/2].

  It is that of Llama 3.1 and later. A channel that turns less than `low` times within the `trained`
  positions is slowed down by `factor`; one that turns more than `high` times stays; between them
  the two are blended by the number of turns.
  """
  exponent = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
  plain = theta**-exponent
  turns = trained * plain / (2 * math.pi)
  share = np.clip((turns - low) / (high - low), 0, 1)  # The share of the unscaled frequency.
  stretched = plain * share + plain / factor * (1 - share)
  return stretched.astype(np.float32)


def yarn_options(yarn: tuple) -> dict:
  """The options of `yarn` besides factor and positions.

  Raises ValueError for an unknown key.
  """
  options = dict(yarn[2]) if len(yarn) > 2 else {}
  unknown = sorted(set(options) - set(YARN_KEYS))
  if unknown:
    raise ValueError(
      f"config.model.llm.yarn has the key {unknown[0]!r}. Known keys: {', '.join(YARN_KEYS)}."
    )
  return options


def _attention_factor(factor: float | int, options: Mapping[str, float | int]) -> float:
  """YaRN's factor on cos and sin.

  It compensates for attention that spreads over more positions.
  """
  if options.get("attention_factor") is not None:
    return float(options["attention_factor"])
  if options.get("mscale") and options.get("mscale_all_dim"):
    scale = _mscale(factor, options["mscale"])
    return scale / _mscale(factor, options["mscale_all_dim"])
  return _mscale(factor, 1.0)


def _mscale(factor: float | int, scale: float | int) -> float:
  if factor <= 1:
    return 1.0
  return 0.1 * scale * math.log(factor) + 1.0


def angles(
  positions: Int[Array, "B L"],
  inverse: np.ndarray,
  factor: float = 1.0,
) -> tuple[Float[Array, "B L 1 c"], Float[Array, "B L 1 c"]]:
  """cos and sin of every position.

  c = d/2; the axis of size 1 is for the heads.
  """
  positions = positions[:, :, None, None].astype(jnp.float32)
  angle = positions * inverse
  return jnp.cos(angle) * factor, jnp.sin(angle) * factor


def rotate(x: Float[Array, "B L H d"], cos, sin) -> Float[Array, "B L H d"]:
  """Turns the two halves of each head by the angles.

  Channel i of the first half and channel i of the second are the coordinates of one point:

    [a b] -> [a cos - b sin, b cos + a sin]
  """
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = [a * cos - b * sin, b * cos + a * sin]
  return jnp.concatenate(turned, axis=-1).astype(x.dtype)
