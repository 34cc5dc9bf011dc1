# SPDX-License-Identifier: Apache-2.0
"""The spatio-temporal resampler of VideoChat-Flash §6.1: one cross-attention layer, whose learned
queries read all tokens of a clip."""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.models.layers import Dense, LayerNorm
from filax.models.mergers import Merger
from filax.models.mergers.tome import near_square
from filax.ops.attention import bidirectional


class Resampler(Merger):
  """[B G K N E] -> [B G K·tokens E]; a still picture gets as many tokens as a clip.

  There are frames·tokens queries. A learned vector for every frame is added to the keys, so that
  their order can be told where an image encoder read them one by one.
  """

  tokens: int = 16  # A frame.
  frames: int = 4  # Of a group: config.model.selector.size.
  heads: int = 16
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def grid(self, frames: int, grid: tuple[int, int]) -> tuple[int, int]:
    """As near to a square as the count allows; ValueError for groups of other sizes."""
    if frames != self.frames:
      raise ValueError(
        f"config.model.merger.frames={self.frames} does not fit groups of {frames} frames. Set it "
        "to config.model.selector.size."
      )
    return self.image_grid(grid)

  def image_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
    return near_square(self.frames * self.tokens)

  def setup(self):
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    self.norm, self.query_norm = LayerNorm(**types), LayerNorm(**types)
    self.attention = Attention(self.heads, **types)

  @nn.compact
  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G n E"]:
    batch, groups, frames, tokens, width = x.shape
    param_dtype = jnp.dtype(self.param_dtype)
    normal = nn.initializers.normal(0.02)
    query = self.param("query", normal, (self.frames * self.tokens, width), param_dtype)
    place = self.param("frame_embedding", normal, (self.frames, width), param_dtype)
    keys = self.norm(x) + place[:frames, None].astype(self.dtype)
    keys = keys.reshape(batch * groups, frames * tokens, width)
    query = jnp.broadcast_to(query.astype(self.dtype), (len(keys), *query.shape))
    out = query + self.attention(self.query_norm(query), keys)
    return out.reshape(batch, groups, -1, width)

  def images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I n E"]:
    return self(x[:, :, None])


class Attention(nn.Module):
  """queries x [B N E] read y [B S E] -> [B N E]."""

  heads: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B N E"], y: Float[Array, "B S E"]) -> Float[Array, "B N E"]:
    types = dict(
      dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=nn.initializers.xavier_uniform()
    )
    split = (self.heads, x.shape[-1] // self.heads)
    q = Dense(split, name="q_proj", **types)(x)
    k, v = (Dense(split, name=f"{name}_proj", **types)(y) for name in "kv")
    o = bidirectional.kind("auto")(q, k, v)
    return Dense(x.shape[-1], axis=(-2, -1), name="o_proj", **types)(o)


DIMS = (
  (r"(query|frame_embedding)$", "- width"),
  (r"[qkv]_proj/kernel$", "width heads head_dim"),
  (r"[qkv]_proj/bias$", "heads head_dim"),
  (r"o_proj/kernel$", "heads head_dim width"),
  (r"o_proj/bias$", "-"),
  (r"norm/(scale|bias)$", "-"),
)

VARIANTS = {"16": dict(tokens=16), "49": dict(tokens=49), "196": dict(tokens=196)}

Model = Resampler
