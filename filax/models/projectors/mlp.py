# SPDX-License-Identifier: Apache-2.0
"""The LLaVA projector: an MLP, pooling and the newline vector.

Two layers with an exact GELU; pooling is bilinear.
"""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.models.layers import Dense, float_types
from filax.models.roles import Grid, Projector
from filax.ops import pooling
from filax.ops.gelu import gelu

NEWLINES = ("one_token", "grid", "frame", "none")  # After the video, each row, each group, nowhere.


class MLP(nn.Module, Projector):
  """A two-layer projector with pooling.

  `mlp` maps width E to D, `pool` reduces the number of tokens; the VideoLM calls both. Still
  pictures are projected, not pooled.
  """

  out: int = 0  # D; the VideoLM's builder fills it with the width of the llm.
  newline: str = "one_token"
  pool_side: int = 2  # Pooled side; 1 = none.
  image_newline: bool = False  # Keep the newline parameter even if newline is "none".
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def setup(self):
    if self.newline not in NEWLINES:
      raise ValueError(
        f"config.model.projector.newline={self.newline!r} is unknown. Set it to one of "
        f"{', '.join(NEWLINES)}."
      )
    if self.out < 1 or self.pool_side < 1:
      raise ValueError(
        f"config.model.projector needs out={self.out} and pool_side={self.pool_side} to be "
        f"positive. If out is not set, it is the width of the llm."
      )
    types = float_types(self)
    self.linear_1 = Dense(self.out, **types)
    self.linear_2 = Dense(self.out, **types)
    if self.newline != "none" or self.image_newline:
      init = nn.initializers.normal(self.out**-0.5)
      dtype = jnp.dtype(self.param_dtype)
      self.row_end = self.param("image_newline", init, (self.out,), dtype)
    else:
      self.row_end = jnp.zeros(self.out)

  def __call__(self, x: Float[Array, "*b E"]) -> Float[Array, "*b D"]:
    return self.mlp(x)

  def mlp(self, x: Float[Array, "*b E"]) -> Float[Array, "*b D"]:
    """linear_2(gelu(linear_1(x))), GELU with erf."""
    hidden = gelu(self.linear_1(x))
    return self.linear_2(hidden)

  def pool(self, x: Float[Array, "B G N D"], grid: Grid) -> Float[Array, "B G n D"]:
    """Pools row-major tokens from `grid` to `pooled_grid(grid)`."""
    if self.pool_side == 1:
      return x
    return pooling.bilinear(x, grid, self.pool_side)

  def pooled_grid(self, grid: Grid) -> Grid:
    """Rows and columns after `pool`."""
    return pooling.pooled_grid(grid, self.pool_side)

  def newline_vector(self) -> Float[Array, "D"]:
    """The vector at the end of a row, group or video.

    Zeros if the projector has no newline.
    """
    return self.row_end.astype(self.dtype)


DIMS = (
  (r"linear_1/kernel$", "- embed"),
  (r"linear_2/kernel$", "embed -"),
  (r"linear_[12]/bias$", "-"),
  (r"image_newline$", "-"),
)

# Names in PyTorch checkpoints: LlavaOnevisionMultiModalProjector, with the newline beside it.
# Rows of (path of a parameter, name of its tensor with * for the layer, layout of both).
TABLE = (
  (r"(linear_[12])/kernel", r"\1.weight", "i o -> o i"),
  (r"(linear_[12])/bias", r"\1.bias", "o -> o"),
  (r"image_newline", r"image_newline", "D -> D"),
)

SPARE = ((r"image_newline", "the config has no newline"),)

EXTRA = (("image_newline", "D", 0.0),)

Model = MLP
