# SPDX-License-Identifier: Apache-2.0
"""The spatio-temporal resampler of VideoChat-Flash §6.1.

One cross-attention layer, whose learned queries read all tokens of a clip.
"""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.models.layers import XAVIER, Dense, LayerNorm, float_types
from filax.models.roles import Grid, Merger
from filax.ops import tome
from filax.ops.attention import bidirectional


class Resampler(nn.Module, Merger):
  """Learned queries that attend to the frames of a group.

  [B G K N E] -> [B G K·tokens E]; a still picture gets as many tokens as a clip. There are
  frames·tokens queries. A learned vector for every frame is added to the keys: features of an image
  encoder do not encode the order of frames.
  """

  tokens: int = 16  # A frame.
  frames: int = 4  # The frames of a group (config.model.selector.size).
  heads: int = 16
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def grid(self, frames: int, grid: Grid) -> Grid:
    """The most square grid of the tokens.

    Raises ValueError for groups of other sizes.
    """
    if frames != self.frames:
      raise ValueError(
        f"config.model.merger.frames={self.frames} does not fit groups of {frames} frames. Set it "
        "to config.model.selector.size."
      )
    return self.image_grid(grid)

  def image_grid(self, grid: Grid) -> Grid:
    return tome.near_square(self.frames * self.tokens)

  def setup(self):
    types = float_types(self)
    self.norm = LayerNorm(**types)
    self.query_norm = LayerNorm(**types)
    self.attention = CrossAttention(self.heads, **types)

  @nn.compact
  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G n E"]:
    batch, groups, frames, tokens, width = x.shape
    param_dtype = jnp.dtype(self.param_dtype)
    init = nn.initializers.normal(0.02)
    query = self.param("query", init, (self.frames * self.tokens, width), param_dtype)
    of_frame = self.param("frame_embedding", init, (self.frames, width), param_dtype)
    keys = self.norm(x) + of_frame[:frames, None].astype(self.dtype)
    keys = keys.reshape(batch * groups, frames * tokens, width)
    query = jnp.broadcast_to(query.astype(self.dtype), (len(keys), *query.shape))
    out = query + self.attention(self.query_norm(query), keys)
    return out.reshape(batch, groups, -1, width)

  def merge_images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I n E"]:
    return self(x[:, :, None])


class CrossAttention(nn.Module):
  """Attention of queries x to y.

  x [B N E], y [B S E] -> [B N E].
  """

  heads: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B N E"],
    y: Float[Array, "B S E"],
  ) -> Float[Array, "B N E"]:
    types = dict(kernel_init=XAVIER, **float_types(self))
    width = x.shape[-1]
    split = (self.heads, width // self.heads)
    q = Dense(split, name="q_proj", **types)(x)
    k = Dense(split, name="k_proj", **types)(y)
    v = Dense(split, name="v_proj", **types)(y)
    o = bidirectional.attention_kernel("auto")(q, k, v)
    return Dense(width, axis=(-2, -1), name="o_proj", **types)(o)


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
