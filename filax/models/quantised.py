# SPDX-License-Identifier: Apache-2.0
"""Quantised kernels: int8 or nf4 codes with their scales, by qwix.

A quantised kernel is two parameters in place of one: `kernel_codes` and `kernel_scales`. int8 has a
code for each weight and a scale for each output. nf4 (arXiv:2305.14314) has two codes in a byte,
those of neighbouring inputs, and a scale for every 64 inputs of an output. `Dense` computes the
kernel of a layer from them when it needs it, so that a stack holds one such layer at a time.
"""

from collections.abc import Mapping
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from filax.models.components import QUANTISED
from filax.models.lora import KERNEL, DenseKernel, axes_of

CODES = f"{KERNEL}_codes"
SCALES = f"{KERNEL}_scales"
KINDS = QUANTISED
_CODE_DTYPES = {"int8": jnp.dtype("int8"), "nf4": jnp.dtype("uint8")}
_TILE = 64  # Inputs that share a scale of nf4.


def is_code(path: str) -> bool:
  """Whether a path is that of codes or scales."""
  return path.rpartition("/")[2] in (CODES, SCALES)


def code_shapes(kernel: DenseKernel, kind: str) -> dict[str, jax.ShapeDtypeStruct]:
  """Name -> shape of the codes and scales of a kernel.

  Raises ValueError for an odd number of inputs in nf4.
  """
  codes = list(kernel.layer_shape)
  if kind == "nf4":
    last_input = kernel.inputs - 1
    if codes[last_input] % 2:
      raise ValueError(
        f"nf4 keeps two inputs in a byte, but a kernel {kernel.layer_shape} has an odd number. Set "
        "config.lora.base, or --quantise, to int8."
      )
    codes[last_input] //= 2
  scales = _scale_shape(kernel, kind)
  return {
    CODES: jax.ShapeDtypeStruct((*kernel.stack, *codes), _CODE_DTYPES[kind]),
    SCALES: jax.ShapeDtypeStruct((*kernel.stack, *scales), jnp.float32),
  }


def quantise(x: jax.Array, kernel: DenseKernel, kind: str) -> dict[str, jax.Array]:
  """The codes and scales of a kernel, one layer after the other."""
  qwix = _qwix()
  tiles, channels = _tiling(kernel, kind)

  def quantise_layer(layer):
    array = qwix.quantize(
      layer.astype(jnp.float32), kind_of_codes(kind), channelwise_axes=channels, tiled_axes=tiles
    )
    codes = array.qvalue
    if kind == "nf4":
      codes = _pack(codes, kernel.inputs - 1)
    return {CODES: codes, SCALES: array.scale}

  return jax.lax.map(quantise_layer, x) if kernel.stacked else quantise_layer(x)


def kind_of_codes(kind: str) -> Any:
  """The name of int8 or nf4 in qwix."""
  return jnp.int8 if kind == "int8" else kind


def _pack(codes: jax.Array, axis: int) -> jax.Array:
  """Two codes of 4 bits in a byte: neighbours along an axis."""
  pairs = codes.astype(jnp.uint8)
  shape = (*codes.shape[:axis], codes.shape[axis] // 2, 2, *codes.shape[axis + 1 :])
  pairs = pairs.reshape(shape)
  first = jnp.take(pairs, 0, axis + 1)
  second = jnp.take(pairs, 1, axis + 1)
  return first | (second << 4)


def _unpack(packed: jax.Array, axis: int) -> jax.Array:
  """The inverse of `_pack`."""
  pairs = jnp.stack([packed & 15, packed >> 4], axis + 1)
  shape = (*packed.shape[:axis], 2 * packed.shape[axis], *packed.shape[axis + 1 :])
  return pairs.reshape(shape).astype(jnp.uint4)


def dequantise(codes: jax.Array, scales: jax.Array, inputs: int) -> jax.Array:
  """The kernel that codes and scales stand for, in float32.

  inputs: the number of input dimensions, counted with that of layers if there is one.
  """
  kind = "int8" if codes.dtype == jnp.int8 else "nf4"
  if kind == "nf4":
    codes = _unpack(codes, inputs - 1)
  array = _qwix().QArray(codes, scales, qtype=kind_of_codes(kind))
  return _qwix().dequantize(array)


def kernel_of(module: nn.DenseGeneral) -> jax.Array:
  """The kernel of a module whose parameters hold codes and scales."""
  codes: jax.Array = module.get_variable("params", CODES)
  scales: jax.Array = module.get_variable("params", SCALES)
  return dequantise(codes, scales, len(axes_of(module))).astype(module.dtype)


def quantised_kernels(kernels: Mapping[str, DenseKernel]) -> dict[str, DenseKernel]:
  """The kernels that are codes in a quantised base.

  They are the kernels of stacked blocks."""
  return {path: kernel for path, kernel in kernels.items() if kernel.stacked}


def with_codes(
  leaves: Mapping[str, Any], kernels: Mapping[str, DenseKernel], kind: str
) -> dict[str, Any]:
  """`leaves` (shapes by path) with codes and scales in place of kernels."""
  quantised = {path: leaf for path, leaf in leaves.items() if path not in kernels}
  for path, kernel in kernels.items():
    for name, shape in code_shapes(kernel, kind).items():
      quantised[path.removesuffix(KERNEL) + name] = shape
  return quantised


def kind_in(params: PyTree) -> str:
  """The kind of the codes among parameters; "" without codes."""
  kinds = {dtype: kind for kind, dtype in _CODE_DTYPES.items()}
  for leaf in jax.tree.leaves(params):
    if leaf.dtype in kinds:
      return kinds[leaf.dtype]
  return ""


def _tiling(kernel: DenseKernel, kind: str) -> tuple[dict[int, int], list[int]]:
  """(axis -> tile, axes of single scales) of one layer."""
  ndim = len(kernel.layer_shape)
  if kind == "int8":
    return {}, list(range(kernel.inputs, ndim))
  last_input = kernel.inputs - 1
  tile = math.gcd(_TILE, kernel.layer_shape[last_input])
  axes = list(range(ndim))
  axes.remove(last_input)
  return {last_input: tile}, axes


def _scale_shape(kernel: DenseKernel, kind: str) -> tuple[int, ...]:
  tiles, channels = _tiling(kernel, kind)
  shape = []
  for axis, size in enumerate(kernel.layer_shape):
    if axis in channels:
      shape.append(size)
    else:
      shape.append(size // tiles.get(axis, size))
  return tuple(shape)


def _qwix():
  try:
    import qwix
  except ModuleNotFoundError as error:
    raise ValueError(
      "int8 and nf4 need the package qwix. Install it with pip install 'filax[qlora]', or set "
      "config.lora.base=same and leave out --quantise."
    ) from error
  return qwix
