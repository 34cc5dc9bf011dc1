# SPDX-License-Identifier: Apache-2.0
"""Attention without a mask, for encoders: every token of a clip sees every other."""

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float

BLOCK = 1024  # Queries at a time where no fused kernel runs: memory O(BLOCK · N) a head.


def attend(
  q: Float[Array, "B N H d"], k: Float[Array, "B N H d"], v: Float[Array, "B N H d"],
  block: int = BLOCK,
) -> Float[Array, "B N H d"]:
  """softmax(q kᵀ / √d) v, softmax in float32: cuDNN's kernel on a GPU in half precision, else
  XLA's, over blocks of queries (computed again in the backward pass) if there are many tokens."""
  if jax.default_backend() == "gpu" and q.dtype in (jnp.bfloat16, jnp.float16):
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
  batch, tokens, heads, d = q.shape
  if tokens <= 2 * block:
    return jax.nn.dot_product_attention(q, k, v)
  parts = jnp.pad(q, ((0, 0), (0, -tokens % block), (0, 0), (0, 0)))
  parts = jnp.moveaxis(parts.reshape(batch, -1, block, heads, d), 1, 0)
  out = lax.map(jax.checkpoint(lambda part: jax.nn.dot_product_attention(part, k, v)), parts)
  return jnp.moveaxis(out, 0, 1).reshape(batch, -1, heads, d)[:, :tokens]
