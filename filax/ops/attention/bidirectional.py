# SPDX-License-Identifier: Apache-2.0
"""Attention without a mask, for vision encoders.

Every token of a clip attends to every other token; softmax in float32.

attend(q, k, v): [B N H d] each -> [B N H d].
"""

from collections.abc import Callable
import math

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.ops.attention import blockwise as causal
from filax.ops.attention.choice import choose_anywhere
from filax.ops.attention.device import device_in_use


def xla(
  q: Float[Array, "B N H d"],
  k: Float[Array, "B S H d"],
  v: Float[Array, "B S H d"],
) -> Float[Array, "B N H d"]:
  """Attention with all scores in memory.

  There are N x S scores per head.
  """
  return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def cudnn(
  q: Float[Array, "B N H d"],
  k: Float[Array, "B S H d"],
  v: Float[Array, "B S H d"],
) -> Float[Array, "B N H d"]:
  """cuDNN's fused attention.

  Needs a GPU, half precision, and d a multiple of 8.
  """
  return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def blockwise(
  q: Float[Array, "B N H d"],
  k: Float[Array, "B S H d"],
  v: Float[Array, "B S H d"],
  block: int = 512,
) -> Float[Array, "B N H d"]:
  """`xla` over equal blocks of at most `block` queries.

  It takes O(block · S) memory. The backward pass computes each block again.
  """
  batch, tokens, heads, d = q.shape
  blocks = math.ceil(tokens / block)
  block = math.ceil(tokens / blocks)
  after = -tokens % block
  nothing = (0, 0)
  padded = jnp.pad(q, (nothing, (0, after), nothing, nothing))
  parts = padded.reshape(batch, -1, block, heads, d)
  parts = jnp.moveaxis(parts, 1, 0)  # [blocks B block H d]
  attend_block = jax.checkpoint(lambda part: xla(part, k, v))
  out = lax.map(attend_block, parts)
  out = jnp.moveaxis(out, 0, 1)
  out = out.reshape(batch, -1, heads, d)
  return out[:, :tokens]


def tiled(
  q: Float[Array, "B N H d"],
  k: Float[Array, "B S H d"],
  v: Float[Array, "B S H d"],
) -> Float[Array, "B N H d"]:
  """`xla` a tile of scores at a time, forward and backward.

  On a CPU this is about twice as fast. It is the causal kernel with all tokens at one place.
  """
  q_at = (jnp.zeros(q.shape[:2], jnp.int32),) * 2
  kv_at = (jnp.zeros(k.shape[:2], jnp.int32),) * 2
  return causal.blockwise(q, k, v, q_at, kv_at)


def auto(
  q: Float[Array, "B N H d"],
  k: Float[Array, "B S H d"],
  v: Float[Array, "B S H d"],
) -> Float[Array, "B N H d"]:
  """The best kernel for the device, dtype and size.

  `cudnn` for half precision on a GPU; otherwise `xla`, and for large score matrices `tiled` on a
  CPU, `blockwise` elsewhere.
  """
  device = device_in_use()
  if device.platform == "gpu" and q.dtype in (jnp.bfloat16, jnp.float16):
    return cudnn(q, k, v)
  if choose_anywhere(device, q.shape[1], k.shape[1]) == "dense":
    return xla(q, k, v)
  attend = tiled if device.platform == "cpu" else blockwise
  return attend(q, k, v)


KERNELS = {"auto": auto, "xla": xla, "tiled": tiled, "blockwise": blockwise, "cudnn": cudnn}


def attention_kernel(name: str) -> Callable[..., Float[Array, "B N H d"]]:
  """The function behind config.model.encoder.attention."""
  if name not in KERNELS:
    raise ValueError(
      f"config.model.encoder.attention={name!r} is unknown. Set it to one of {', '.join(KERNELS)}."
    )
  return KERNELS[name]
