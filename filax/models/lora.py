# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters of matrix products (LoRA, arXiv:2106.09685).

An adapted kernel W [inputs, outputs] has two more parameters beside it: A [inputs, r] and
B [r, outputs]. The product becomes x W + scale · (x A) B, with scale = alpha / r. `Dense` applies
the adapters wherever they are among its parameters: in training, prefill and decoding alike. A
kernel that is stacked over layers has stacked adapters. A is initialised as in PEFT, B with zeros.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import contextvars
import dataclasses
import math
import re
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

KERNEL = "kernel"
A = f"{KERNEL}_lora_a"
B = f"{KERNEL}_lora_b"
SCALE = f"{KERNEL}_lora_scale"  # alpha / rank, a constant: float32 [], or [layers].
NAMES = (A, B, SCALE)

Leaves = Mapping[str, Any]  # Path of a parameter -> array or shape.

_DROPOUT = contextvars.ContextVar("share of an adapter's inputs that is dropped", default=0.0)
DROPOUT_STREAM = "adapters"  # The rng of adapter dropout.


@dataclasses.dataclass(frozen=True)
class DenseKernel:
  """The kernel of a `Dense`, and which of its dimensions are inputs."""

  shape: tuple[int, ...]
  inputs: int  # Number of input dimensions.
  stacked: bool  # Whether the first dimension is that of layers.

  @property
  def layer_shape(self) -> tuple[int, ...]:
    """The shape without the dimension of layers."""
    return self.shape[1:] if self.stacked else self.shape

  @property
  def stack(self) -> tuple[int, ...]:
    """(layers,), or () if it is not stacked."""
    return self.shape[:1] if self.stacked else ()

  @property
  def input_shape(self) -> tuple[int, ...]:
    """The dimensions that are summed over."""
    return self.layer_shape[: self.inputs]

  @property
  def output_shape(self) -> tuple[int, ...]:
    """The dimensions of the result."""
    return self.layer_shape[self.inputs :]


def adapter_name(path: str, name: str) -> str:
  """Path of a kernel -> path of the parameter `name` beside it."""
  return f"{path.removesuffix(KERNEL)}{name}"


def is_adapter(path: str) -> bool:
  """Whether a path is that of A, B or their scale."""
  return path.rpartition("/")[2] in NAMES


def adapted_kernels(paths: Iterable[str]) -> list[str]:
  """Paths of the kernels whose adapters are among `paths`."""
  ending = f"/{A}"
  return [path.removesuffix(A) + KERNEL for path in paths if path.endswith(ending)]


def chosen_ranks(
  rules: Sequence[tuple[str, int]], kernels: Mapping[str, DenseKernel]
) -> dict[str, int]:
  """Path -> rank of the kernels that get adapters.

  rules: rows (regex, rank) of config.lora.ranks. The first row that matches a path counts; a rank
    of 0 leaves the kernel without adapters.

  Raises ValueError for a row without effect, and for a rank above a kernel's width.
  """
  ranks = {}
  used = set()
  for path in kernels:
    for number, (regex, rank) in enumerate(rules):
      if re.search(regex, path):
        used.add(number)
        if rank:
          ranks[path] = rank
        break
  for number, (regex, _) in enumerate(rules):
    if number not in used:
      raise ValueError(
        f"The row {regex!r} of config.lora.ranks has no effect: none of the {len(kernels)} kernels "
        f"is left for it. Examples of kernels: {', '.join(list(kernels)[-3:])}."
      )
  for path, rank in ranks.items():
    kernel = kernels[path]
    width = min(math.prod(kernel.input_shape), math.prod(kernel.output_shape))
    if rank > width:
      raise ValueError(
        f"config.lora.ranks gives {path} the rank {rank}, above its width of {width}. Lower it."
      )
  return ranks


def adapter_shapes(kernel: DenseKernel, rank: int) -> dict[str, jax.ShapeDtypeStruct]:
  """Name -> shape of the adapters of a kernel; all are float32."""
  shapes = {
    A: (*kernel.stack, *kernel.input_shape, rank),
    B: (*kernel.stack, rank, *kernel.output_shape),
    SCALE: kernel.stack,
  }
  return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def draw_adapters(key: jax.Array, kernel: DenseKernel, rank: int, alpha: float) -> dict[str, Any]:
  """Name -> first value of the adapters of a kernel.

  A is uniform within 1 / sqrt(inputs), PEFT's kaiming_uniform with a = sqrt 5; B is zero.
  """
  shapes = adapter_shapes(kernel, rank)
  bound = 1 / math.sqrt(math.prod(kernel.input_shape))
  a = jax.random.uniform(key, shapes[A].shape, jnp.float32, -bound, bound)
  return {
    A: a,
    B: jnp.zeros(shapes[B].shape, jnp.float32),
    SCALE: jnp.full(shapes[SCALE].shape, alpha / rank, jnp.float32),
  }


def with_adapters(
  leaves: Leaves, kernels: Mapping[str, DenseKernel], ranks: Mapping[str, int]
) -> dict[str, Any]:
  """`leaves` (shapes by path) with the shapes of adapters."""
  adapted = dict(leaves)
  for path, rank in ranks.items():
    for name, shape in adapter_shapes(kernels[path], rank).items():
      adapted[adapter_name(path, name)] = shape
  return adapted


def merge_kernel(kernel, a, b, scale):
  """W + scale · A B, in the dtype of W.

  Product and sum are computed in float32. The arguments are all of one layer, or all stacked over
  layers. Works on NumPy arrays and on JAX arrays.
  """
  flat_a = a.reshape(*scale.shape, -1, a.shape[-1])
  flat_b = b.reshape(*scale.shape, a.shape[-1], -1)
  with jax.default_matmul_precision("highest"):  # Else devices round A and B to bfloat16.
    update = flat_a.astype("float32") @ flat_b.astype("float32")
  update = update * scale[..., None, None]
  merged = kernel.astype("float32") + update.reshape(kernel.shape)
  return merged.astype(kernel.dtype)


@contextlib.contextmanager
def input_dropout(rate: float) -> Iterator[None]:
  """Adapters traced inside this context drop a share of their inputs.

  The share is `rate`, and the rng stream is DROPOUT_STREAM. Only training uses dropout.
  """
  token = _DROPOUT.set(rate)
  try:
    yield
  finally:
    _DROPOUT.reset(token)


def adapter_product(module: Any, x: jax.Array) -> jax.Array:
  """scale · (x A) B of a `Dense` whose parameters hold adapters."""
  a, b, scale = (module.get_variable("params", name) for name in NAMES)
  rate = _DROPOUT.get()
  if rate:
    x = _drop(x, rate, module.make_rng(DROPOUT_STREAM))
  x, a, b = module.promote_dtype(x, a, b, dtype=module.dtype)
  axes = tuple(axis % x.ndim for axis in axes_of(module))
  product = module.dot_general
  h = product(x, a, ((axes, tuple(range(len(axes)))), ((), ())))
  out = product(h, b, (((h.ndim - 1,), (0,)), ((), ())))
  scaled = out.astype(jnp.float32) * scale  # The scale itself is not rounded, as in merge_kernel.
  return scaled.astype(out.dtype)


def _drop(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def axes_of(module: nn.DenseGeneral) -> tuple[int, ...]:
  """The axes of its inputs that a product sums over."""
  axis = module.axis
  return (axis,) if isinstance(axis, int) else tuple(axis)
