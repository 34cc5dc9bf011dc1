# SPDX-License-Identifier: Apache-2.0
"""Digests of arrays that do not depend on their sharding.

Every element is mixed with its index in the array by a non-linear bijection of 64 bits. The digest
is the sum of the results modulo 2**64. This has four consequences:

- Each process digests the parts that it holds, and the parts are added in any order.
- A change of one element always changes the sum.
- Changes of several elements do not cancel each other.
- NumPy on the host is enough; nothing is compiled.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import concurrent.futures
import dataclasses
import itertools
import math

import jax
from jaxtyping import PyTree
import numpy as np

from filax import host_limits

_PLACE = np.uint64(0x9E3779B97F4A7C15)  # This and the next two are the constants of splitmix64.
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_BLOCK = 1 << 15  # Elements that are mixed at a time: 256 KiB, which fit into the cache of a core.
_STRIPE = 1 << 20  # The fewest elements that are worth a thread of their own.
_LINEAR = np.uint32(2 * 0x9E3779B9 & 0xFFFFFFFF)  # The factor in digests of format 1.
_THREADS = min(8, host_limits.usable_cpus())  # NumPy works on several blocks at once.

Index = tuple[int, ...]
Mix = Callable[[np.ndarray, np.ndarray, np.ndarray], int]  # (words, rows, columns) -> sum


@dataclasses.dataclass(frozen=True)
class Box:
  """A part of an array that this process holds."""

  start: Index  # Index of the first element in the array.
  value: np.ndarray
  replicas: Index = (0,)  # Replicas of the array that hold it.


@dataclasses.dataclass(frozen=True)
class Parts:
  """The parts of an array that this process writes, on the host."""

  dtype: np.dtype
  shape: Index
  boxes: tuple[Box, ...]


def digest_text(dtype: np.dtype, shape: Sequence[int], total: int) -> str:
  """A digest as text, as it is stored: "float32[64,64]:0123456789abcdef"."""
  sizes = ",".join(str(size) for size in shape)
  return f"{np.dtype(dtype).name}[{sizes}]:{total % 2**64:016x}"


def digests(tree: PyTree) -> PyTree:
  """The digest sums of the arrays of a tree, each below 2**64.

  This process must hold every array completely.
  """

  def leaf_sum(x):
    part = host_parts({"": x})[""]
    return _part_sum(part)

  return jax.tree.map(leaf_sum, tree)


def host_parts(leaves: Mapping[str, jax.Array | np.ndarray]) -> dict[str, Parts]:
  """Copies the first replica of every array to the host.

  Returns the parts that this process writes. All copies are started before the first one is
  awaited. JAX keeps a host copy together with its array. So a later copy of the same array, such as
  the one that Orbax makes, costs nothing.
  """
  arrays = {path: _without_key_type(x) for path, x in leaves.items()}
  for x in arrays.values():
    for shard in _first_replica(x):
      shard.data.copy_to_host_async()
  parts = {}
  for path, x in arrays.items():
    boxes = tuple(_host_boxes(x))
    parts[path] = Parts(np.dtype(x.dtype), tuple(x.shape), boxes)
  return parts


def _host_boxes(x: jax.Array | np.ndarray) -> list[Box]:
  """The boxes of an array that this process writes."""
  if not isinstance(x, jax.Array):  # A host array is the same in every process: one writes it.
    if jax.process_index() != 0:
      return []
    return [Box((0,) * x.ndim, x)]
  boxes = []
  for shard in _first_replica(x):
    value = np.asarray(shard.data)
    boxes.append(Box(_start(shard.index), value))
  return boxes


def totals(parts: Mapping[str, Parts]) -> dict[str, int]:
  """path -> digest sum of this process's parts, modulo 2**64."""
  return {path: _part_sum(part) for path, part in parts.items()}


def _part_sum(part: Parts) -> int:
  sums = box_sums(part.boxes, part.shape)
  return sum(sums) % 2**64


def box_sums(boxes: Sequence[Box], shape: Sequence[int], mix: Mix | None = None) -> list[int]:
  """The digest sum of every box of an array of `shape`.

  Several threads share the work.
  """
  stripes = []
  owners = []  # The number of each stripe's box.
  for number, box in enumerate(boxes):
    for stripe in _stripes(box):
      stripes.append(stripe)
      owners.append(number)

  def stripe_sum(stripe: Box) -> int:
    return box_sum(stripe.value, stripe.start, shape, mix)

  sums = [0] * len(boxes)
  elements = sum(box.value.size for box in boxes)
  if len(stripes) == 1 or elements < 2 * _STRIPE:
    for number, stripe in zip(owners, stripes, strict=True):
      sums[number] += stripe_sum(stripe)
    return sums
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    for number, total in zip(owners, pool.map(stripe_sum, stripes), strict=True):
      sums[number] += total
  return sums


def held_boxes(x: jax.Array) -> Iterator[Box]:
  """Yields every distinct part of an array that this process holds.

  Each part is copied to the host when it is reached.
  """
  x = _without_key_type(x)
  replicas: dict[Index, list[int]] = {}
  for shard in x.addressable_shards:
    replicas.setdefault(_start(shard.index), []).append(shard.replica_id)
  for shard in x.addressable_shards:
    start = _start(shard.index)
    if start in replicas:
      data = shard.data
      # A second Array on the same buffer: the host copy is freed with it, not with `x`.
      view = jax.make_array_from_single_device_arrays(data.shape, data.sharding, [data])
      same_box = tuple(replicas.pop(start))
      yield Box(start, np.asarray(view), same_box)


def box_sum(
  x: np.ndarray, start: Sequence[int], shape: Sequence[int], mix: Mix | None = None
) -> int:
  """The digest sum of the part `x` of an array.

  `x` begins at index `start` of an array of `shape`.
  """
  words = _words(x)
  if words.size == 0:
    return 0
  words_per_element = words.shape[-1] // x.shape[-1] if x.ndim else 1
  if x.ndim:
    start = (*start[:-1], start[-1] * words_per_element)
    shape = (*shape[:-1], shape[-1] * words_per_element)
  else:
    start = (0,)
    shape = (1,)
  width = words.shape[-1]
  rows = _places(words.shape[:-1], start[:-1], shape[:-1])
  rows = rows * np.uint64(shape[-1])  # The place in the array of the first word of each row.
  columns = np.arange(width, dtype=np.uint64) + np.uint64(start[-1])
  words = words.reshape(len(rows), width)
  return _sum_of_blocks(words, rows, columns, mix)


def _sum_of_blocks(
  words: np.ndarray, rows: np.ndarray, columns: np.ndarray, mix: Mix | None
) -> int:
  """The digest sum over words [R C].

  It is computed in blocks that fit into a core's cache.
  """
  height = max(1, _BLOCK // words.shape[1])
  width = min(words.shape[1], _BLOCK)
  if mix is None:
    mix = Mixer(height, width)
  total = 0
  for row in range(0, words.shape[0], height):
    block_rows = slice(row, row + height)
    for column in range(0, words.shape[1], width):
      block_columns = slice(column, column + width)
      block = words[block_rows, block_columns]
      total += mix(block, rows[block_rows], columns[block_columns])
  return total


class Mixer:
  """Computes the digest sum of a block of words.

  Its buffers are reused for the next block.
  """

  def __init__(self, height: int, width: int):
    self._mixed = np.empty((height, width), np.uint64)
    self._shifted = np.empty((height, width), np.uint64)

  def __call__(self, words: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> int:
    """The digest sum of a block, modulo 2**64.

    words [R C]; rows [R]: index in the array of each row's first element; columns [C].
    """
    height, width = words.shape
    mixed = self._mixed[:height, :width]
    shifted = self._shifted[:height, :width]
    row_terms = rows * _PLACE
    column_terms = columns * _PLACE
    np.add(row_terms[:, None], column_terms, out=mixed)
    np.add(mixed, words, out=mixed)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2), (31, None)):
      np.right_shift(mixed, np.uint64(shift), out=shifted)
      np.bitwise_xor(mixed, shifted, out=mixed)
      if factor is not None:
        np.multiply(mixed, factor, out=mixed)
    return int(mixed.sum(dtype=np.uint64))


def linear_sum(words: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> int:
  """The digest sum of a block in format 1, modulo 2**32."""
  place = (rows[:, None] + columns).astype(np.uint32)
  factor = place * _LINEAR + np.uint32(1)
  products = words.astype(np.uint32) * factor
  return int(products.sum(dtype=np.uint32))


def _stripes(box: Box) -> list[Box]:
  """A box cut along its first axis, for the threads."""
  length = box.value.shape[0] if box.value.ndim else 1
  count = min(_THREADS, box.value.size // _STRIPE, length)
  if count <= 1:
    return [box]
  cuts = [length * number // count for number in range(count + 1)]
  stripes = []
  for first, stop in itertools.pairwise(cuts):
    start = (box.start[0] + first, *box.start[1:])
    stripes.append(Box(start, box.value[first:stop]))
  return stripes


def _without_key_type(x):
  """The stored numbers of an array of PRNG keys; other arrays unchanged."""
  if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
    return jax.random.key_data(x)
  return x


def _first_replica(x) -> list:
  if not isinstance(x, jax.Array):
    return []
  return [shard for shard in x.addressable_shards if shard.replica_id == 0]


def _start(index: Sequence[slice]) -> Index:
  return tuple(part.start or 0 for part in index)


def _words(x: np.ndarray) -> np.ndarray:
  """The bytes of an array as little-endian unsigned integers, at least 1-D.

  An integer has the size of an element. An element of 16 bytes becomes two integers, side by side
  in the last axis.
  """
  x = np.ascontiguousarray(x)  # At least 1-D.
  size = min(x.dtype.itemsize, 8)
  return x.view(np.dtype(f"<u{size}"))


def _places(part: Sequence[int], start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
  """The row-major indices of a part's elements in an array of `shape`.

  part: the shape of the part, which begins at index `start`. The indices are in row-major order.
  """
  places = np.zeros(1, np.uint64)
  for size, first, full_size in zip(part, start, shape, strict=True):
    along_axis = np.arange(size, dtype=np.uint64) + np.uint64(first)
    places = places[:, None] * np.uint64(full_size) + along_axis
    places = places.reshape(-1)
  assert len(places) == math.prod(part)
  return places
