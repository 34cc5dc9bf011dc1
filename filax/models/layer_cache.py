# SPDX-License-Identifier: Apache-2.0
"""Keys and values of the tokens that a decoder has read.

B rows, S slots, K key/value heads of size d. The slots of a head lie together, because a new
token's query reads all slots of one head after another. The layers are either stacked like the
parameters, [layers B K S d], or apart, a tuple with one array [B*K S d] a layer. Either way there
is a single copy: a layer writes its new tokens in place, and reads its part where it lies. Rows and
heads are one axis of layers apart, since XLA's CPU backend copies the cache to drop an axis of one
row between the write and the product.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from filax.ops.attention.device import device_in_use

_GPU_TILE = 128  # Keys that a matrix product on a GPU reads together.


def device_slots(slots: int) -> int:
  """The slots to allocate for `slots` tokens: whole tiles on a GPU.

  With another number, XLA copies and pads keys and values for every token.
  """
  if device_in_use().platform != "gpu":
    return slots
  return -(-slots // _GPU_TILE) * _GPU_TILE


@struct.dataclass
class Cache:
  """Keys and values of a range of layers.

  Slots from `length` on are empty.
  """

  k: Any  # [layers B K S d], or a tuple of [B*K S d].
  v: Any
  length: Any  # int32 [B]

  @property
  def slots(self) -> int:
    """The places of a row, S."""
    first = self.k[0] if isinstance(self.k, tuple) else self.k
    return first.shape[-2]

  def repeated(self, times: int) -> "Cache":
    """The cache with every row `times` times, one after another."""

    def repeat(x, axis: int):
      return jnp.repeat(x, times, axis=axis)

    return self._with_changed_rows(repeat, jnp.repeat(self.length, times))

  def with_row(self, row: Int[Array, ""], other: "Cache") -> "Cache":
    """The cache with another one's only row in `row`.

    Both have the same slots.
    """
    heads = other.k[0].shape[0] if isinstance(other.k, tuple) else 0

    def write(x, new):
      if x.ndim == 5:
        return lax.dynamic_update_slice(x, new, (0, row, 0, 0, 0))
      return lax.dynamic_update_slice(x, new, (row * heads, 0, 0))

    return Cache(
      jax.tree.map(write, self.k, other.k),
      jax.tree.map(write, self.v, other.v),
      self.length.at[row].set(other.length[0]),
    )

  def with_rows(self, rows: int) -> "Cache":
    """The cache with empty rows after its own, `rows` together."""
    added = (0, rows - self.length.shape[0])

    def enlarge(x, axis: int):
      widths = [(0, 0)] * x.ndim
      widths[axis] = added
      return jnp.pad(x, widths)

    return self._with_changed_rows(enlarge, jnp.pad(self.length, added))

  def at_rows(self, rows: Int[Array, "count"]) -> "Cache":
    """The cache of some of its rows, in this order."""

    def pick(x, axis: int):
      return jnp.take(x, rows, axis=axis)

    return self._with_changed_rows(pick, self.length[rows])

  def _with_changed_rows(
    self, change: Callable[[Array, int], Array], length: Int[Array, "count"]
  ) -> "Cache":
    """The cache after change(keys or values, axis of the rows)."""
    batch = self.length.shape[0]

    def change_layers(x):
      if x.ndim == 5:
        return change(x, 1)
      by_row = x.reshape(batch, -1, *x.shape[1:])  # Rows and heads are one axis.
      return change(by_row, 0).reshape(-1, *x.shape[1:])

    return Cache(jax.tree.map(change_layers, self.k), jax.tree.map(change_layers, self.v), length)


@struct.dataclass
class LayerCache:
  """The cache of one layer, as a block receives and returns it."""

  k: Any  # [B*K S d], or [layers B K S d] with `layer`.
  v: Any
  layer: Any = None  # int32: the place of this layer in a stack; None for a layer apart.

  def write(
    self, k: Float[Array, "B L K d"], v: Float[Array, "B L K d"], slots: Int[Array, "B"]
  ) -> "LayerCache":
    """The cache with new tokens from slot `slots` of each row on."""
    return dataclasses.replace(
      self,
      k=_written(self.k, k, slots, self.layer),
      v=_written(self.v, v, slots, self.layer),
    )

  def keys(self) -> Array:
    """The keys of this layer.

    Their shape is [B K S d] or [B*K S d].
    """
    return self._part(self.k)

  def values(self) -> Array:
    """The values of this layer, as `keys`."""
    return self._part(self.v)

  def _part(self, x):
    if self.layer is None:
      return x
    return lax.dynamic_index_in_dim(x, self.layer, 0, keepdims=False)


def _written(old: Array, new: Float[Array, "B L K d"], slots: Int[Array, "B"], layer) -> Array:
  """`old` with the tokens of each row from its slot on."""
  batch, _, heads, _ = new.shape
  new = jnp.swapaxes(new, 1, 2).astype(old.dtype)  # [B K L d]
  if layer is None:
    for row in range(batch):
      old = lax.dynamic_update_slice(old, new[row], (row * heads, slots[row], 0))
    return old
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    for row in range(batch):
      old = lax.dynamic_update_slice(old, new[row][None, None], (layer, row, 0, slots[row], 0))
    return old

  def write_row(row, tokens, slot):
    return lax.dynamic_update_slice(row, tokens[None], (layer, 0, slot, 0))

  return jax.vmap(write_row, in_axes=(1, 0, 0), out_axes=1)(old, new, slots)  # Rows are sharded.
