# SPDX-License-Identifier: Apache-2.0
"""Layers shared by the models.

Parameters are stored in `param_dtype`, and products are computed in `dtype`. Norms are computed in
float32.
"""

from collections.abc import Callable
import math
from typing import Any

from flax import linen as nn
from flax.errors import ScopeParamShapeError
from flax.linen.dtypes import promote_dtype
import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from filax.models import lora, quantised
from filax.ops.attention import bidirectional
from filax.ops.gelu import gelu
from filax.ops.lookup import lookup
from filax.parallel.rules import constrain

XAVIER = nn.initializers.xavier_uniform()

# Policy -> the values of a layer, named by checkpoint_name, that it saves for the backward pass.
# All others are computed again.
SAVED_NAMES = {
  "nothing": (),
  "attn": ("attn",),
  "attn_mlp": ("attn", "gate", "up"),
  "attn_qkv": ("attn", "query", "key", "value", "middle"),
  # Every matrix product: only norms, rotations and activation functions are computed again.
  "products": ("attn", "query", "key", "value", "middle", "gate", "up"),
  # Without a choice by filax.train.memory_fit, that of "attn".
  "auto": ("attn",),
}
REMAT = {
  "none": None,  # Save everything: no recomputation.
  **{
    policy: jax.checkpoint_policies.save_only_these_names(*names)
    for policy, names in SAVED_NAMES.items()
  },
  "offload": jax.checkpoint_policies.save_and_offload_only_these_names(  # "attn", in host memory.
    names_which_can_be_saved=[],
    names_which_can_be_offloaded=["attn"],
    offload_src="device",
    offload_dst="pinned_host",
  ),
}


def flat_dot_general(
  lhs, rhs, dimension_numbers, precision=None, preferred_element_type=None, **kw
):
  """lax.dot_general that merges the leading dimensions of an activation on one device.

  On one device, a product [B L D] x [D F] and its gradient then become plain matrix products, which
  are twice as fast on a CPU. On a mesh the dimensions stay separate, because B and L are sharded
  over different axes.
  """
  options = dict(precision=precision, preferred_element_type=preferred_element_type, **kw)
  (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
  leading = lhs.ndim - len(lhs_contract)
  contracts_tail = tuple(lhs_contract) == tuple(range(leading, lhs.ndim))
  mesh = jax.sharding.get_abstract_mesh()
  on_mesh = not (mesh.empty or mesh.size == 1)
  if on_mesh or lhs_batch or rhs_batch or not contracts_tail or leading < 2:
    return lax.dot_general(lhs, rhs, dimension_numbers, **options)
  lead = lhs.shape[:leading]
  contract = tuple(range(1, 1 + len(lhs_contract)))
  flat_lhs = lhs.reshape(math.prod(lead), *lhs.shape[leading:])
  flat_dimensions = ((contract, rhs_contract), ((), ()))
  flat = lax.dot_general(flat_lhs, rhs, flat_dimensions, **options)
  return flat.reshape(*lead, *flat.shape[1:])


def float_types(module: nn.Module) -> dict[str, Any]:
  """The dtypes of a module, as arguments for its layers."""
  return dict(dtype=module.dtype, param_dtype=module.param_dtype)


class Dense(nn.DenseGeneral):
  """flax's DenseGeneral with `flat_dot_general`, adapters and quantised kernels.

  All matrix products of a block use this class. Adapters (filax.models.lora) and a quantised kernel
  (filax.models.quantised) are used if they are among the parameters.
  """

  dot_general: Any = flat_dot_general
  promote_dtype: Any = promote_dtype  # flax's own; its annotation there cannot be checked.

  @nn.compact
  def __call__(self, inputs):
    out = super().__call__(inputs)
    if self.has_variable("params", lora.A):
      out = out + lora.adapter_product(self, inputs)
    return out

  @nn.nowrap
  def param(self, name, *args, **options):
    """A parameter; `args` are its initialiser, its shape and its dtype.

    flax's own method traces the initialiser at each use to compare shapes, which is slow. This
    method compares the shapes directly.
    """
    if name == "kernel" and self.has_variable("params", quantised.CODES):
      return quantised.kernel_of(self)
    if not self.has_variable("params", name):
      return super().param(name, *args, **options)
    shape = args[1]
    value: Any = self.get_variable("params", name)
    if value.shape != tuple(shape):
      place = "/".join(self.path)
      raise ScopeParamShapeError(name, f"/{place}", value.shape, shape)
    return value


class LayerNorm(nn.Module):
  """LayerNorm over the last axis with float32 statistics.

  The result is cast to `dtype`.
  """

  eps: float = 1e-6
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
    width = x.shape[-1:]
    param_dtype = jnp.dtype(self.param_dtype)
    scale = self.param("scale", nn.initializers.ones, width, param_dtype)
    bias = self.param("bias", nn.initializers.zeros, width, param_dtype)
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    variance = jnp.square(x).mean(-1, keepdims=True)
    x = x * lax.rsqrt(variance + self.eps)
    return (x * scale + bias).astype(self.dtype)


class RMSNorm(nn.Module):
  """RMSNorm in Qwen2's order.

  x / rms(x) in float32, cast to `dtype`, then times the scale.
  """

  eps: float = 1e-6
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
    param_dtype = jnp.dtype(self.param_dtype)
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:], param_dtype)
    x = x.astype(jnp.float32)
    mean_square = jnp.square(x).mean(-1, keepdims=True)
    x = x * lax.rsqrt(mean_square + self.eps)
    return x.astype(self.dtype) * scale.astype(self.dtype)


class VisionMLP(nn.Module):
  """The MLP of a vision tower.

  x [B N E] -> [B N E], through F hidden units; GELU with erf, or with tanh.
  """

  mlp: int
  tanh: bool = False
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B N E"]) -> Float[Array, "B N E"]:
    types = dict(kernel_init=XAVIER, **float_types(self))
    h = Dense(self.mlp, name="fc1", **types)(x)
    h = checkpoint_name(h, "up")
    h = nn.gelu(h, approximate=True) if self.tanh else gelu(h)
    h = constrain(h, "frames - mlp")
    return Dense(x.shape[-1], name="fc2", **types)(h)


class VisionAttention(nn.Module):
  """Full attention of a vision tower.

  x [B N E] -> [B N E]. The N tokens are the patches of a frame, or of all frames of a clip.
  """

  heads: int
  attend: str = "auto"  # A name in filax.ops.attention.bidirectional.KERNELS.
  key_bias: bool = True
  out: str = "out_proj"  # The name of the output projection.
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B N E"]) -> Float[Array, "B N E"]:
    types = dict(kernel_init=XAVIER, **float_types(self))
    width = x.shape[-1]
    split = (self.heads, width // self.heads)
    q = constrain(Dense(split, name="q_proj", **types)(x), "frames - heads -")
    k = Dense(split, use_bias=self.key_bias, name="k_proj", **types)(x)
    k = constrain(k, "frames - heads -")
    v = constrain(Dense(split, name="v_proj", **types)(x), "frames - heads -")
    q = checkpoint_name(q, "query")
    k = checkpoint_name(k, "key")
    v = checkpoint_name(v, "value")
    o = bidirectional.attention_kernel(self.attend)(q, k, v)
    o = constrain(o, "frames - heads -")
    o = checkpoint_name(o, "attn")
    return Dense(width, axis=(-2, -1), name=self.out, **types)(o)


class PatchEmbed(nn.Module):
  """Patch embedding of pictures.

  [B h w 3] -> [B rows·cols E], row-major. Pixels that do not fill a patch are cut off. The kernel
  is that of a Conv2d with equal size and stride, (side side 3 E). It is applied as one matmul over
  flattened patches.
  """

  width: int
  side: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B h w 3"]) -> Float[Array, "B N E"]:
    side = self.side
    rows = x.shape[1] // side
    cols = x.shape[2] // side
    x = x[:, : rows * side, : cols * side]
    x = x.reshape(-1, rows, side, cols, side, 3)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # [B rows cols side side 3]
    patches = x.reshape(-1, rows * cols, side, side, 3)
    types = float_types(self)
    embed = Dense(self.width, axis=(-3, -2, -1), name="patch_embedding", **types)
    return embed(patches)


class Embed(nn.Module):
  """Token embedding.

  tokens [B L] -> [B L D].
  """

  rows: int
  width: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def setup(self):
    # Unit logits for unit hidden states; close to HF's fixed 0.02 at the width of the 7B.
    init = nn.initializers.normal(self.width**-0.5)
    shape = (self.rows, self.width)
    self.embedding = self.param("embedding", init, shape, jnp.dtype(self.param_dtype))

  def __call__(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
    return lookup(self.embedding.astype(self.dtype), tokens)

  def row_products(self, x: Float[Array, "B L D"]) -> Float[Array, "B L rows"]:
    """The product of every row of the table with x, in float32."""
    table = self.embedding.astype(self.dtype)
    return jnp.einsum("BLD,VD->BLV", x, table, preferred_element_type=jnp.float32)

  def output_kernel(self) -> Float[Array, "D V"]:
    """The table as the kernel of a tied output projection."""
    return self.embedding.T.astype(self.dtype)


class Head(nn.Module):
  """The kernel [D V] of the output projection, in the compute dtype."""

  rows: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, width: int) -> Float[Array, "D V"]:
    init = nn.initializers.normal(width**-0.5)
    shape = (width, self.rows)
    kernel = self.param("kernel", init, shape, jnp.dtype(self.param_dtype))
    return kernel.astype(self.dtype)


def remat_policy(name: str) -> Callable | None:
  """The policy behind config.model.*.remat.

  Raises ValueError for an unknown name.
  """
  if name not in REMAT:
    raise ValueError(f"remat {name!r} is unknown. Set it to one of {', '.join(REMAT)}.")
  return REMAT[name]


def check_size(frames: UInt8[Array, "*b h w 3"], size: int) -> None:
  """Raises ValueError if pictures are not `size` pixels wide and high."""
  height, width = frames.shape[-3:-1]
  if (height, width) != (size, size):
    raise ValueError(
      f"Pictures of {height} x {width} pixels do not fit an encoder of {size} x {size}. Read "
      "them at config.model.encoder.size (see its variant)."
    )


def standardise(
  x: UInt8[Array, "*b h w 3"],
  mean,
  std,
  dtype,
) -> Float[Array, "*b h w 3"]:
  """Standardised pixels: (x / 255 - mean) / std per channel.

  uint8 in; computed in float32, returned in `dtype`.
  """
  x = x.astype(jnp.float32) / 255
  x = (x - jnp.asarray(mean)) / jnp.asarray(std)
  return x.astype(dtype)
