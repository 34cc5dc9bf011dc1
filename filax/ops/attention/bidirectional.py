# SPDX-License-Identifier: Apache-2.0
"""Attention without a mask, for encoders: every token of a clip sees every other. Softmax in f32.

attend(q, k, v): [B N H d] each -> [B N H d].
"""

from collections.abc import Callable
import math

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float


def xla(
  q: Float[Array, "B N H d"], k: Float[Array, "B S H d"], v: Float[Array, "B S H d"]
) -> Float[Array, "B N H d"]:
  """All scores at once: N x S of them a head."""
  return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def cudnn(
  q: Float[Array, "B N H d"], k: Float[Array, "B S H d"], v: Float[Array, "B S H d"]
) -> Float[Array, "B N H d"]:
  """cuDNN's fused attention: a GPU, half precision, d a multiple of 8."""
  return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def blockwise(
  q: Float[Array, "B N H d"],
  k: Float[Array, "B S H d"],
  v: Float[Array, "B S H d"],
  block: int = 512,
) -> Float[Array, "B N H d"]:
  """`xla` over equal blocks of at most `block` queries, computed again in the backward pass: memory
  O(block · S)."""
  batch, tokens, heads, d = q.shape
  block = math.ceil(tokens / math.ceil(tokens / block))
  parts = jnp.pad(q, ((0, 0), (0, -tokens % block), (0, 0), (0, 0)))
  parts = jnp.moveaxis(parts.reshape(batch, -1, block, heads, d), 1, 0)
  out = lax.map(jax.checkpoint(lambda part: xla(part, k, v)), parts)
  return jnp.moveaxis(out, 0, 1).reshape(batch, -1, heads, d)[:, :tokens]


def auto(
  q: Float[Array, "B N H d"], k: Float[Array, "B S H d"], v: Float[Array, "B S H d"]
) -> Float[Array, "B N H d"]:
  """`cudnn` for half precision on a GPU; else `xla`, or `blockwise` where that grows large."""
  if jax.default_backend() == "gpu" and q.dtype in (jnp.bfloat16, jnp.float16):
    return cudnn(q, k, v)
  return (xla if q.shape[1] * k.shape[1] <= 2048**2 else blockwise)(q, k, v)


KINDS = {"auto": auto, "xla": xla, "blockwise": blockwise, "cudnn": cudnn}


def kind(name: str) -> Callable[..., Float[Array, "B N H d"]]:
  """The function behind config.model.encoder.attention."""
  if name not in KINDS:
    raise ValueError(
      f"config.model.encoder.attention={name!r} is unknown. Set it to one of {', '.join(KINDS)}."
    )
  return KINDS[name]
