# SPDX-License-Identifier: Apache-2.0
"""The SigLIP vision tower (arXiv:2303.15343), applied frame by frame.

Parameter names follow the HF model. Features are the output of the last block here, before
`post_layernorm`. That norm, the released 27th block and the pooling head are unused and have no
parameters. Exports for other software must add the norm (weight 1, bias 0, or the imported values).
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
from filax.parallel.rules import constrain


class SiglipBlock(nn.Module):
  """One pre-norm layer: (x, cache) -> (x, cache).

  `Stack` passes the cache along; here it is None.
  """

  heads: int
  mlp: int
  eps: float
  attend: str
  dtype: Any
  param_dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, "B N E"], cache=None):
    types = float_types(self)
    h = LayerNorm(self.eps, name="layer_norm1", **types)(x)
    x = x + VisionAttention(self.heads, self.attend, name="self_attn", **types)(h)
    x = checkpoint_name(x, "middle")
    h = LayerNorm(self.eps, name="layer_norm2", **types)(x)
    x = x + VisionMLP(self.mlp, tanh=True, name="mlp", **types)(h)
    return constrain(x, "frames - -"), cache


class SiglipEmbeddings(nn.Module):
  """Patches of pictures, with learned positions.

  [B h w 3] -> [B N E].
  """

  width: int
  patch: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def setup(self):
    types = float_types(self)
    self.patches = PatchEmbed(self.width, self.patch, **types)
    nn.share_scope(self, self.patches)  # embeddings/patch_embedding, as in the checkpoint.

  @nn.compact
  def __call__(self, x: Float[Array, "B h w 3"]) -> Float[Array, "B N E"]:
    x = self.patches(x)
    init = nn.initializers.normal(self.width**-0.5)
    param_dtype = jnp.dtype(self.param_dtype)
    position = self.param("position_embedding", init, x.shape[1:], param_dtype)
    return x + position.astype(self.dtype)


class Siglip(nn.Module, PatchEncoder):
  """The SigLIP image encoder.

  uint8 frames [B c h w 3] -> features [B c N E], N row-major patches. The c frames of a clip do not
  interact.
  """

  size: int  # Pixels of a picture's side; a remainder of the patch is cut off.
  patch: int
  width: int
  depth: int
  heads: int
  mlp: int
  clip: int = 1  # Frames encoded jointly.
  eps: float = 1e-6
  attention: str = "auto"  # A name in filax.ops.attention.bidirectional.KERNELS.
  remat: str = "none"
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def setup(self):
    types = float_types(self)
    self.embeddings = SiglipEmbeddings(self.width, self.patch, **types)
    options = dict(heads=self.heads, mlp=self.mlp, eps=self.eps, attend=self.attention, **types)
    self.stack = Stack(SiglipBlock, self.depth, options, self.remat)
    nn.share_scope(self, self.stack)  # encoder/layers/..., not encoder/stack/layers/...

  def __call__(self, frames: UInt8[Array, "B c h w 3"]) -> Float[Array, "B c N E"]:
    """Features of frames.

    Raises ValueError if the pictures are not `size` pixels wide and high.
    """
    pictures = frames.reshape(-1, *frames.shape[2:])
    x = self.blocks(self.embed(pictures))
    return x.reshape(*frames.shape[:2], *x.shape[1:])

  def embed(self, frames: UInt8[Array, "B h w 3"]) -> Float[Array, "B N E"]:
    """Pixels scaled to -1..1, embedded as patches."""
    check_size(frames, self.size)
    frames = constrain(frames, "frames - - -")
    pixels = standardise(frames, 0.5, 0.5, self.dtype)
    return self.embeddings(pixels)

  def blocks(
    self,
    x: Float[Array, "B N E"],
    start: int = 0,
    stop: int | None = None,
  ) -> Float[Array, "B N E"]:
    """Layers start..stop (default: all)."""
    x = constrain(x, "frames - -")
    x, _ = self.stack(x, None, start=start, stop=stop)
    return x


DIMS = (  # Path of a parameter -> its dimensions, in the words of filax.parallel.rules.
  (r"patch_embedding/kernel$", "- - - width"),
  (r"position_embedding$", "- width"),
  (r"[qkv]_proj/kernel$", "width heads head_dim"),
  (r"[qkv]_proj/bias$", "heads head_dim"),
  (r"out_proj/kernel$", "heads head_dim width"),
  (r"fc1/kernel$", "width mlp"),
  (r"fc1/bias$", "mlp"),
  (r"fc2/kernel$", "mlp width"),
  (r"(patch_embedding|out_proj|fc2|layer_norm[12])/bias$", "-"),
  (r"layer_norm[12]/scale$", "-"),
)

VARIANTS = {
  "tiny": dict(size=42, patch=14, width=32, depth=3, heads=4, mlp=48),
  "toy": dict(size=48, patch=12, width=64, depth=2, heads=4, mlp=256),
  "so400m-384": dict(size=384, patch=14, width=1152, depth=26, heads=16, mlp=4304),
}

# Names in PyTorch checkpoints: SiglipVisionTransformer.
# Rows of (path of a parameter, name of its tensor with * for the layer, layout of both).
TABLE = (
  (
    r"embeddings/patch_embedding/kernel",
    r"embeddings.patch_embedding.weight",
    "h w c E -> E c h w",
  ),
  (r"embeddings/patch_embedding/bias", r"embeddings.patch_embedding.bias", "E -> E"),
  (r"embeddings/position_embedding", r"embeddings.position_embedding.weight", "N E -> N E"),
  (r"layers/(layer_norm[12])/scale", r"encoder.layers.*.\1.weight", "E -> E"),
  (r"layers/(layer_norm[12])/bias", r"encoder.layers.*.\1.bias", "E -> E"),
  (
    r"layers/self_attn/([qkv]_proj)/kernel",
    r"encoder.layers.*.self_attn.\1.weight",
    "E H d -> (H d) E",
  ),
  (r"layers/self_attn/([qkv]_proj)/bias", r"encoder.layers.*.self_attn.\1.bias", "H d -> (H d)"),
  (
    r"layers/self_attn/out_proj/kernel",
    r"encoder.layers.*.self_attn.out_proj.weight",
    "H d E -> E (H d)",
  ),
  (r"layers/self_attn/out_proj/bias", r"encoder.layers.*.self_attn.out_proj.bias", "E -> E"),
  (r"layers/mlp/(fc[12])/kernel", r"encoder.layers.*.mlp.\1.weight", "i o -> o i"),
  (r"layers/mlp/(fc[12])/bias", r"encoder.layers.*.mlp.\1.bias", "o -> o"),
)

SPARE = (
  (r"encoder\.layers\.{depth}\..*", "the block after the feature layer"),
  (r"head\..*", "the pooling head"),
  (r"embeddings\.position_ids", "a counter"),
  (r"post_layernorm\.(weight|bias)", "applied after the feature layer"),
)

EXTRA = (("post_layernorm.weight", "E", 1.0), ("post_layernorm.bias", "E", 0.0))

Model = Siglip
