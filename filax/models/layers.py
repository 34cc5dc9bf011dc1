# SPDX-License-Identifier: Apache-2.0
"""What two or more models share. Parameters in `param_dtype`, compute in `dtype`, norms in f32."""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any

from flax import linen as nn
from flax.linen.dtypes import promote_dtype
import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from filax.ops.lookup import lookup
from filax.parallel.rules import by_axis, constrain

XAVIER = nn.initializers.xavier_uniform()

# What is kept between the forward and the backward pass of a layer; the rest is computed again.
REMAT = {
  "none": None,  # Keep everything: no recomputation.
  "nothing": jax.checkpoint_policies.nothing_saveable,
  "attn": jax.checkpoint_policies.save_only_these_names("attn"),
  "attn_mlp": jax.checkpoint_policies.save_only_these_names("attn", "gate", "up"),
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
  """lax.dot_general that merges the leading dimensions of an activation on a single device.

  There a [B L D] x [D F] product and above all its gradient are plain matrix products, twice as
  fast on a CPU. On a mesh the dimensions stay apart, because B and L lie on different axes.
  """
  (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
  tail = tuple(range(lhs.ndim - len(lhs_contract), lhs.ndim))
  product = lambda a, dims: lax.dot_general(
    a, rhs, dims, precision=precision, preferred_element_type=preferred_element_type, **kw
  )
  mesh = jax.sharding.get_abstract_mesh()
  whole = mesh.empty or mesh.size == 1
  if not whole or lhs_batch or rhs_batch or tuple(lhs_contract) != tail or lhs.ndim - len(tail) < 2:
    return product(lhs, dimension_numbers)
  lead = lhs.shape[: lhs.ndim - len(tail)]
  contract = tuple(range(1, 1 + len(tail)))
  flat = product(
    lhs.reshape(math.prod(lead), *lhs.shape[lhs.ndim - len(tail) :]),
    ((contract, rhs_contract), ((), ())),
  )
  return flat.reshape(*lead, *flat.shape[1:])


class Dense(nn.DenseGeneral):
  """flax's DenseGeneral with `flat_dot_general`: every matmul of a block is one of these."""

  dot_general: Any = flat_dot_general
  promote_dtype: Any = promote_dtype  # flax's own; its annotation there cannot be checked.


class LayerNorm(nn.Module):
  """LayerNorm over the last axis with float32 statistics; the result is cast to `dtype`."""

  eps: float = 1e-6
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
    width = x.shape[-1:]
    scale = self.param("scale", nn.initializers.ones, width, jnp.dtype(self.param_dtype))
    bias = self.param("bias", nn.initializers.zeros, width, jnp.dtype(self.param_dtype))
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    x = x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.eps)
    return (x * scale + bias).astype(self.dtype)


class RMSNorm(nn.Module):
  """x / rms(x) in float32, cast to `dtype`, then times the scale (the order of Qwen2)."""

  eps: float = 1e-6
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.dtype(self.param_dtype))
    x = x.astype(jnp.float32)
    x = x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.eps)
    return x.astype(self.dtype) * scale.astype(self.dtype)


class MLP(nn.Module):
  """x [B N E] -> [B N E] of a vision tower, through F hidden units; GELU with erf, or with tanh."""

  mlp: int
  tanh: bool = False
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B N E"]) -> Float[Array, "B N E"]:
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=XAVIER)
    h = checkpoint_name(Dense(self.mlp, name="fc1", **types)(x), "up")
    h = constrain(nn.gelu(h, approximate=self.tanh), "frames - mlp")
    return Dense(x.shape[-1], name="fc2", **types)(h)


class PatchEmbed(nn.Module):
  """pictures [B h w 3] -> patches [B rows·cols E], row-major; a remainder of pixels is cut off.

  The kernel is that of a Conv2d with equal size and stride, (side side 3 E); the product is one
  matmul over flattened patches.
  """

  width: int
  side: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B h w 3"]) -> Float[Array, "B N E"]:
    p, (rows, cols) = self.side, (x.shape[1] // self.side, x.shape[2] // self.side)
    x = x[:, : rows * p, : cols * p].reshape(-1, rows, p, cols, p, 3)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows * cols, p, p, 3)
    return Dense(
      self.width,
      axis=(-3, -2, -1),
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="patch_embedding",
    )(x)


class Embed(nn.Module):
  """tokens [B L] -> [B L D]."""

  rows: int
  width: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def setup(self):
    # Unit logits for unit hidden states; close to HF's fixed 0.02 at the width of the 7B.
    init = nn.initializers.normal(self.width**-0.5)
    self.embedding = self.param(
      "embedding", init, (self.rows, self.width), jnp.dtype(self.param_dtype)
    )

  def __call__(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
    return lookup(self.embedding.astype(self.dtype), tokens)

  def head(self) -> Float[Array, "D V"]:
    return self.embedding.T.astype(self.dtype)


class Head(nn.Module):
  """The kernel [D V] of the output projection, in the compute dtype."""

  rows: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, width: int) -> Float[Array, "D V"]:
    init, shape = nn.initializers.normal(width**-0.5), (width, self.rows)
    return self.param("kernel", init, shape, jnp.dtype(self.param_dtype)).astype(self.dtype)


class Stack(nn.Module):
  """`depth` equal blocks with stacked parameters: one traced block, any range of layers.

  A block maps (x, cache, *args) -> (x, cache). `cache` is a pytree with a leading layer axis, or
  None. Parameters are `layers/...` with a leading axis of `depth`, whichever ranges are run. Those
  that `dims` (rows of DIMS) lays over fsdp and seq are gathered axis by axis, a layer at a time.
  """

  block: Callable[..., nn.Module]
  depth: int
  options: Mapping[str, Any]
  remat: str = "none"
  dims: Sequence[tuple[str, str]] = ()

  def setup(self):
    self.layers = self.block(**self.options)

  def __call__(self, x, cache=None, *args, start: int = 0, stop: int | None = None):
    """Runs layers start..stop. Initialise with the whole range."""
    stop = self.depth if stop is None else stop
    body = lambda block, x, cache: block(x, cache, *args)
    if self.dims and not self.is_initializing():
      body = nn.map_variables(body, "params", trans_in_fn=self._gathered)
    if self.remat != "none":
      if self.remat not in REMAT:
        raise ValueError(f"remat {self.remat!r} is unknown. Set it to one of {', '.join(REMAT)}.")
      body = nn.remat(body, prevent_cse=False, policy=REMAT[self.remat])
    run = nn.scan(
      body, variable_axes={"params": 0}, split_rngs={"params": True}, length=stop - start
    )
    if (start, stop) != (0, self.depth):
      run = nn.map_variables(
        run, "params", trans_in_fn=lambda p: jax.tree.map(lambda a: a[start:stop], p)
      )
    return run(self.layers, x, cache)

  def _gathered(self, params):
    return by_axis(self.dims, params, self.options["dtype"])

  def at(self, layer: int, *args, **options):
    """Calls the block of one layer; no gradient reaches its parameters."""
    own = lambda params: jax.tree.map(lambda a: lax.stop_gradient(a[layer]), params)
    run = nn.map_variables(lambda block, *args: block(*args, **options), "params", trans_in_fn=own)
    return run(self.layers, *args)


def check_size(frames: UInt8[Array, "*b h w 3"], size: int) -> None:
  """Raises ValueError if pictures are not `size` pixels wide and high."""
  if (sides := frames.shape[-3:-1]) != (size, size):
    raise ValueError(
      f"Pictures of {sides[0]} x {sides[1]} pixels do not fit an encoder of {size} x {size}. Read "
      "them at config.model.encoder.size (see its variant)."
    )


def standardise(x: UInt8[Array, "*b h w 3"], mean, std, dtype) -> Float[Array, "*b h w 3"]:
  """uint8 pixels -> (x / 255 - mean) / std per channel, computed in float32."""
  x = x.astype(jnp.float32) / 255
  return ((x - jnp.asarray(mean)) / jnp.asarray(std)).astype(dtype)
