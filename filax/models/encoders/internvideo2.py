# SPDX-License-Identifier: Apache-2.0
"""The InternVideo2 tower (arXiv:2403.15377) as used by VideoChat-Flash.

The tower has no pooling and no final norm. The released tower has 40 blocks; VideoChat-Flash uses
the first 39, and only these exist here. Dropping whole branches during training, as in the released
recipe, is not implemented.

Parameters have their released names (cls_token, pos_embed, img_pos_embed, patch_embed, norm1, attn,
ls1, mlp.fc1), with these exceptions:

- `blocks` are the stacked `layers`.
- The fused `attn.qkv` is q_proj, k_proj and v_proj, each with an axis of heads.
- Weights of norms and LayerScales are called `scale`.
- Tables have no leading axis of 1.
"""

from typing import Any

from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from filax.models.encoders.umt import BLOCKS, MEAN, STD
from filax.models.layers import (
  Dense,
  PatchEmbed,
  RMSNorm,
  VisionMLP,
  check_size,
  float_types,
  standardise,
)
from filax.models.roles import PatchEncoder
from filax.models.stack import Stack
from filax.ops.attention import bidirectional
from filax.parallel.rules import constrain


class InternVideo2Attention(nn.Module):
  """Full attention within a clip.

  x [B N E] -> [B N E]. Queries and keys are normalised over the whole width, before they are split
  into heads.
  """

  heads: int
  attend: str = "auto"
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B N E"]) -> Float[Array, "B N E"]:
    types = float_types(self)
    width = x.shape[-1]
    split = (self.heads, width // self.heads)
    q = Dense(split, use_bias=False, name="q_proj", **types)(x)
    k = Dense(split, use_bias=False, name="k_proj", **types)(x)
    v = Dense(split, use_bias=False, name="v_proj", **types)(x)
    q = checkpoint_name(q, "query")
    k = checkpoint_name(k, "key")
    v = checkpoint_name(v, "value")
    heads = q.shape
    q = RMSNorm(name="q_norm", **types)(q.reshape(x.shape))
    q = q.reshape(heads)
    k = RMSNorm(name="k_norm", **types)(k.reshape(x.shape))
    k = k.reshape(heads)
    q = constrain(q, "frames - heads -")
    k = constrain(k, "frames - heads -")
    v = constrain(v, "frames - heads -")
    o = bidirectional.attention_kernel(self.attend)(q, k, v)
    o = constrain(o, "frames - heads -")
    o = checkpoint_name(o, "attn")
    return Dense(width, axis=(-2, -1), name="proj", **types)(o)


class LayerScale(nn.Module):
  """x times a learned factor per channel, computed in float32."""

  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B N E"]) -> Float[Array, "B N E"]:
    init = nn.initializers.constant(1e-5)
    scale = self.param("scale", init, x.shape[-1:], jnp.dtype(self.param_dtype))
    scaled = x.astype(jnp.float32) * scale.astype(jnp.float32)
    return scaled.astype(self.dtype)


class InternVideo2Block(nn.Module):
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
    h = RMSNorm(name="norm1", **types)(x)
    h = InternVideo2Attention(self.heads, self.attend, name="attn", **types)(h)
    h = checkpoint_name(h, "middle")
    x = x + LayerScale(name="ls1", **types)(h)
    h = RMSNorm(name="norm2", **types)(x)
    h = VisionMLP(self.mlp, name="mlp", **types)(h)
    x = x + LayerScale(name="ls2", **types)(h)
    return constrain(x, "frames - -"), cache


class InternVideo2(nn.Module, PatchEncoder):
  """The InternVideo2 video encoder.

  uint8 clips [B c h w 3] -> features [B c N E]; c is `clip`, or 1 for a still picture. A class
  token is processed along with the patches and left out of the result. Clips and pictures have
  separate position tables.
  """

  size: int  # Pixels of a picture's side.
  width: int
  depth: int
  heads: int
  mlp: int
  patch: int = 14
  clip: int = 4  # Frames encoded jointly.
  attention: str = "auto"  # auto | xla | blockwise | cudnn
  remat: str = "none"
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def setup(self):
    types = float_types(self)
    patches = self.grid[0] * self.grid[1]
    self.cls_token = self._table("cls_token", 1)
    self.pos_embed = self._table("pos_embed", 1 + self.clip * patches)
    self.img_pos_embed = self._table("img_pos_embed", 1 + patches)
    self.patch_embed = PatchEmbed(self.width, self.patch, **types)
    options = dict(heads=self.heads, mlp=self.mlp, attend=self.attention, **types)
    self.stack = Stack(InternVideo2Block, self.depth, options, self.remat)
    nn.share_scope(self, self.stack)  # encoder/layers/..., not encoder/stack/layers/...

  def _table(self, name: str, rows: int):
    """A learned table [rows E]."""
    init = nn.initializers.normal(0.02)
    return self.param(name, init, (rows, self.width), jnp.dtype(self.param_dtype))

  def __call__(self, frames: UInt8[Array, "B c h w 3"]) -> Float[Array, "B c N E"]:
    """Features of clips.

    Raises ValueError if pictures have the wrong size, or clips the wrong length.
    """
    x = self.blocks(self.embed(frames))
    x = x[:, 1:]  # Without the class token.
    return x.reshape(*frames.shape[:2], -1, self.width)

  def embed(self, frames: UInt8[Array, "B c h w 3"]) -> Float[Array, "B N E"]:
    """Class token and patches of all frames, with their positions."""
    check_size(frames, self.size)
    batch, clip = frames.shape[:2]
    if clip not in (1, self.clip):
      raise ValueError(
        f"Clips of {clip} frames have no positions: the encoder has those of {self.clip} frames "
        f"and of 1. Set config.model.encoder.clip={clip} and train it."
      )
    pictures = frames.reshape(-1, *frames.shape[2:])
    pixels = standardise(pictures, MEAN, STD, self.dtype)
    x = self.patch_embed(pixels).reshape(batch, -1, self.width)
    class_token = self.cls_token.astype(self.dtype)
    class_token = jnp.broadcast_to(class_token, (batch, 1, self.width))
    table = self.img_pos_embed if clip == 1 else self.pos_embed
    x = jnp.concatenate([class_token, x], axis=1)
    x = x + table.astype(self.dtype)
    return constrain(x, "frames - -")

  def blocks(
    self,
    x: Float[Array, "B N E"],
    start: int = 0,
    stop: int | None = None,
  ) -> Float[Array, "B N E"]:
    """Layers start..stop (default: all)."""
    x, _ = self.stack(x, None, start=start, stop=stop)
    return x


DIMS = (  # Path of a parameter -> its dimensions, in the words of filax.parallel.rules.
  (r"(cls_token|pos_embed)$", "- width"),
  (r"patch_embedding/kernel$", "- - - width"),
  (r"[qkv]_proj/kernel$", "width heads head_dim"),
  (r"attn/proj/kernel$", "heads head_dim width"),
  (r"fc1/kernel$", "width mlp"),
  (r"fc1/bias$", "mlp"),
  (r"fc2/kernel$", "mlp width"),
  (r"(patch_embedding|attn/proj|fc2)/bias$", "-"),
  (r"(norm[12]|[qk]_norm|ls[12])/scale$", "-"),
)

VARIANTS = {
  "tiny": dict(size=28, patch=7, width=32, depth=2, heads=4, mlp=64),
  "1B": dict(size=224, width=1408, depth=39, heads=16, mlp=6144),
}

# Names in PyTorch checkpoints: VideoChat-Flash's encoder.
# Rows of (path of a parameter, name of its tensor with * for the layer, layout of both).
TABLE = (
  *BLOCKS,
  (r"(cls_token|pos_embed|img_pos_embed)", r"\1", "N E -> 1 N E"),
  (r"layers/(ls[12])/scale", r"blocks.*.\1.weight", "E -> E"),
  (r"layers/attn/([qk]_norm)/scale", r"blocks.*.attn.\1.weight", "E -> E"),
)

SPARE = (
  (r"blocks\.{depth}\..*", "the block after the feature layer"),
  (r"clip_projector\..*", "the pooling head"),
)

Model = InternVideo2
