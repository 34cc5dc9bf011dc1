# SPDX-License-Identifier: Apache-2.0
"""The UMT-L video tower of VideoChat-Flash (arXiv:2303.16058).

The tower computes space-time attention within clips. The released tower has 24 blocks;
VideoChat-Flash uses the first 23, and only these exist here.

Parameters have their released names (patch_embed, norm1, attn, mlp.fc1, vision_layernorm), with
these exceptions:

- `blocks` are the stacked `layers`.
- The fused `attn.qkv` is q_proj, k_proj and v_proj, each with an axis of heads, so that heads are
  sharded over the mesh axis `tensor`.
- q_proj/bias is the released q_bias.
"""

from typing import Any

from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from filax.models.layers import (
  LayerNorm,
  PatchEmbed,
  VisionAttention,
  VisionMLP,
  check_size,
  float_types,
  standardise,
)
from filax.models.roles import PatchEncoder
from filax.models.stack import Stack
from filax.ops.position_table import position_table
from filax.parallel.rules import constrain

MEAN = (0.485, 0.456, 0.406)  # MEAN and STD are those of ImageNet.
STD = (0.229, 0.224, 0.225)


class UmtBlock(nn.Module):
  """One pre-norm layer: (x, cache) -> (x, cache).

  `Stack` passes the cache along; here it is None.
  """

  heads: int
  mlp: int
  attend: str
  dtype: Any
  param_dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, "B N E"], cache=None):
    types = float_types(self)
    h = LayerNorm(1e-6, name="norm1", **types)(x)
    attention = VisionAttention(
      self.heads, self.attend, key_bias=False, out="proj", name="attn", **types
    )
    x = x + attention(h)
    x = checkpoint_name(x, "middle")
    h = LayerNorm(1e-6, name="norm2", **types)(x)
    x = x + VisionMLP(self.mlp, name="mlp", **types)(h)
    return constrain(x, "frames - -"), cache


class UMT(nn.Module, PatchEncoder):
  """The UMT video encoder.

  uint8 clips [B c h w 3] -> features [B c N E]. A picture is a clip of one frame. Token order is
  (frame, row, column). Clips of other lengths than `trained` get resampled positions.
  """

  size: int  # Pixels of a picture's side.
  width: int
  depth: int
  heads: int
  mlp: int
  patch: int = 16
  clip: int = 4  # Frames encoded jointly.
  trained: tuple[int, int] = (4, 14)  # Frames and patches a side of the trained positions.
  attention: str = "auto"  # auto | xla | blockwise | cudnn
  remat: str = "none"
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def setup(self):
    types = float_types(self)
    self.patch_embed = PatchEmbed(self.width, self.patch, **types)
    options = dict(heads=self.heads, mlp=self.mlp, attend=self.attention, **types)
    self.stack = Stack(UmtBlock, self.depth, options, self.remat)
    nn.share_scope(self, self.stack)  # encoder/layers/..., not encoder/stack/layers/...
    self.vision_layernorm = LayerNorm(1e-12, **types)

  def __call__(self, frames: UInt8[Array, "B c h w 3"]) -> Float[Array, "B c N E"]:
    """Features of clips.

    Raises ValueError if the pictures are not `size` pixels wide and high.
    """
    x = self.blocks(self.embed(frames))
    x = self.vision_layernorm(x)
    return x.reshape(*frames.shape[:2], -1, self.width)

  def embed(self, frames: UInt8[Array, "B c h w 3"]) -> Float[Array, "B N E"]:
    """Standardised pixels as patches, with their positions.

    N counts the patches of all frames.
    """
    check_size(frames, self.size)
    batch, clip = frames.shape[:2]
    pictures = frames.reshape(-1, *frames.shape[2:])
    pixels = standardise(pictures, MEAN, STD, self.dtype)
    x = self.patch_embed(pixels).reshape(batch, -1, self.width)
    table = position_table(clip, self.grid[0], self.width, tuple(self.trained))
    return constrain(x + jnp.asarray(table, self.dtype), "frames - -")

  def blocks(
    self,
    x: Float[Array, "B N E"],
    start: int = 0,
    stop: int | None = None,
  ) -> Float[Array, "B N E"]:
    """Layers start..stop (default: all), before the final norm."""
    x, _ = self.stack(x, None, start=start, stop=stop)
    return x


DIMS = (  # Path of a parameter -> its dimensions, in the words of filax.parallel.rules.
  (r"patch_embedding/kernel$", "- - - width"),
  (r"[qkv]_proj/kernel$", "width heads head_dim"),
  (r"[qv]_proj/bias$", "heads head_dim"),
  (r"attn/proj/kernel$", "heads head_dim width"),
  (r"fc1/kernel$", "width mlp"),
  (r"fc1/bias$", "mlp"),
  (r"fc2/kernel$", "mlp width"),
  (r"(patch_embedding|attn/proj|fc2)/bias$", "-"),
  (r"norm[12]?/(scale|bias)$", "-"),
)

_LARGE = dict(width=1024, depth=23, heads=16, mlp=4096)

VARIANTS = {
  "tiny": dict(size=32, patch=8, width=32, depth=2, heads=4, mlp=64, trained=(4, 4)),
  "toy": dict(size=48, patch=12, width=64, depth=2, heads=4, mlp=256, trained=(4, 4)),
  "L-224": dict(size=224, **_LARGE),
  "L-448": dict(size=448, **_LARGE),
}

# Names in PyTorch checkpoints: VideoChat-Flash's encoder. [i/3] is the i-th third of the
# fused projection.
# Rows of (path of a parameter, name of its tensor with * for the layer, layout of both).
_QKV = "E H d -> (H d) E"
BLOCKS = (  # Patches and blocks, with the same names in InternVideo2.
  (r"patch_embed/patch_embedding/kernel", r"patch_embed.proj.weight", "h w c E -> E c 1 h w"),
  (r"patch_embed/patch_embedding/bias", r"patch_embed.proj.bias", "E -> E"),
  (r"layers/(norm[12])/scale", r"blocks.*.\1.weight", "E -> E"),
  (r"layers/attn/q_proj/kernel", r"blocks.*.attn.qkv.weight[0/3]", _QKV),
  (r"layers/attn/k_proj/kernel", r"blocks.*.attn.qkv.weight[1/3]", _QKV),
  (r"layers/attn/v_proj/kernel", r"blocks.*.attn.qkv.weight[2/3]", _QKV),
  (r"layers/attn/proj/kernel", r"blocks.*.attn.proj.weight", "H d E -> E (H d)"),
  (r"layers/attn/proj/bias", r"blocks.*.attn.proj.bias", "E -> E"),
  (r"layers/mlp/(fc[12])/kernel", r"blocks.*.mlp.\1.weight", "i o -> o i"),
  (r"layers/mlp/(fc[12])/bias", r"blocks.*.mlp.\1.bias", "o -> o"),
)
TABLE = (
  *BLOCKS,
  (r"vision_layernorm/scale", r"vision_layernorm.weight", "E -> E"),
  (r"vision_layernorm/bias", r"vision_layernorm.bias", "E -> E"),
  (r"layers/(norm[12])/bias", r"blocks.*.\1.bias", "E -> E"),
  (r"layers/attn/([qv])_proj/bias", r"blocks.*.attn.\1_bias", "H d -> (H d)"),
)

SPARE = (
  (r"blocks\.{depth}\..*", "the block after the feature layer"),
  (r"(img_)?pos_embed", "positions are computed"),
)

Model = UMT
