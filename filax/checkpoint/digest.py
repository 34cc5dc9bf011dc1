# SPDX-License-Identifier: Apache-2.0
"""Digests of arrays that do not depend on how an array is spread over devices and processes.

Every element is mixed with its place in the array by a bijection of 64 bits that is not linear; the
digest is the sum of the results modulo 2**64. So a part of an array is digested where it lies, the
parts are added in any order, an element that changes always changes the sum, and changes of several
elements do not cancel. NumPy alone, on the host: nothing is compiled.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import concurrent.futures
import dataclasses
import itertools
import math
import os

import jax
from jaxtyping import PyTree
import numpy as np

_PLACE = np.uint64(0x9E3779B97F4A7C15)  # Of splitmix64, as are the next two.
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_BLOCK = 1 << 15  # Elements that are mixed at a time: 256 KiB, which stay in a core's cache.
_STRIPE = 1 << 20  # Elements, at least, that a thread is given.
_LINEAR = np.uint32(2 * 0x9E3779B9 & 0xFFFFFFFF)  # Of format 1.
_THREADS = min(8, os.cpu_count() or 1)  # NumPy works on several blocks at once.

Mix = Callable[[np.ndarray, np.ndarray, np.ndarray], int]  # (words, rows, columns) -> sum


@dataclasses.dataclass(frozen=True)
class Box:
  """A part of an array that this process holds."""

  start: tuple[int, ...]  # Index in the array of the first element.
  value: np.ndarray
  replicas: tuple[int, ...] = (0,)  # The copies of the array that it is a part of.


@dataclasses.dataclass(frozen=True)
class Parts:
  """What this process holds of an array, on the host."""

  dtype: np.dtype
  shape: tuple[int, ...]
  boxes: tuple[Box, ...]


def digest_text(dtype: np.dtype, shape: Sequence[int], total: int) -> str:
  """A digest as a checkpoint keeps it: "float32[64,64]:0123456789abcdef"."""
  sizes = ",".join(str(size) for size in shape)
  return f"{np.dtype(dtype).name}[{sizes}]:{total % 2**64:016x}"


def digests(tree: PyTree) -> PyTree:
  """The sum of every array of a tree, below 2**64; this process must hold all of each."""

  def leaf_sum(x):
    part = host_parts({"": x})[""]
    return sum(box_sums(part.boxes, part.shape)) % 2**64

  return jax.tree.map(leaf_sum, tree)


def host_parts(leaves: Mapping[str, jax.Array | np.ndarray]) -> dict[str, Parts]:
  """Copies the first replica of every array to the host: what this process writes of it.

  All copies are started before the first is awaited. JAX keeps them with the arrays, so whoever
  copies the same arrays next, such as Orbax, gets them for nothing.
  """
  arrays = {path: _plain(x) for path, x in leaves.items()}
  for x in arrays.values():
    for shard in _first_replica(x):
      shard.data.copy_to_host_async()
  parts = {}
  for path, x in arrays.items():
    if isinstance(x, jax.Array):
      boxes = [Box(_start(shard.index), np.asarray(shard.data)) for shard in _first_replica(x)]
    else:  # An array of the host is the same in every process.
      boxes = [Box((0,) * x.ndim, x)] if jax.process_index() == 0 else []
    parts[path] = Parts(np.dtype(x.dtype), tuple(x.shape), tuple(boxes))
  return parts


def totals(parts: Mapping[str, Parts]) -> dict[str, int]:
  """path -> the sum of what this process holds, modulo 2**64."""
  return {path: sum(box_sums(part.boxes, part.shape)) % 2**64 for path, part in parts.items()}


def box_sums(boxes: Sequence[Box], shape: Sequence[int], mix: Mix | None = None) -> list[int]:
  """The sum of every box of an array of `shape`. Several threads share the work."""
  stripes = [(number, stripe) for number, box in enumerate(boxes) for stripe in _stripes(box)]
  sums = [0] * len(boxes)
  if len(stripes) == 1 or sum(box.value.size for box in boxes) < 2 * _STRIPE:
    for number, stripe in stripes:
      sums[number] = box_sum(stripe.value, stripe.start, shape, mix)
    return sums
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    totals = pool.map(lambda item: box_sum(item[1].value, item[1].start, shape, mix), stripes)
    for (number, _), total in zip(stripes, totals, strict=True):
      sums[number] += total
  return sums


def held_boxes(x: jax.Array) -> Iterator[Box]:
  """Every different part of an array that this process holds, copied one after the other."""
  x = _plain(x)
  replicas: dict[tuple[int, ...], list[int]] = {}
  for shard in x.addressable_shards:
    replicas.setdefault(_start(shard.index), []).append(shard.replica_id)
  for shard in x.addressable_shards:
    start = _start(shard.index)
    if start in replicas:
      # Another Array on the same buffer: the copy goes when it goes, not when `x` does.
      view = jax.make_array_from_single_device_arrays(
        shard.data.shape, shard.data.sharding, [shard.data]
      )
      yield Box(start, np.asarray(view), tuple(replicas.pop(start)))


def box_sum(
  x: np.ndarray, start: Sequence[int], shape: Sequence[int], mix: Mix | None = None
) -> int:
  """The sum for the part `x`, which begins at index `start`, of an array of `shape`."""
  words = _words(x)
  if words.size == 0:
    return 0
  tail = words.shape[-1] // x.shape[-1] if x.ndim else 1  # Words of an element.
  start = (*start[:-1], start[-1] * tail) if start else (0,)
  shape = (*shape[:-1], shape[-1] * tail) if shape else (1,)
  rows = _places(words.shape[:-1], start[:-1], shape[:-1]) * np.uint64(shape[-1])
  columns = np.arange(words.shape[-1], dtype=np.uint64) + np.uint64(start[-1])
  words = words.reshape(len(rows), -1)
  height = max(1, _BLOCK // words.shape[1])
  width = min(words.shape[1], _BLOCK)
  mix = mix or Mixer(height, width)
  total = 0
  for row in range(0, len(rows), height):
    for column in range(0, words.shape[1], width):
      part = slice(row, row + height), slice(column, column + width)
      total += mix(words[part], rows[part[0]], columns[part[1]])
  return total


class Mixer:
  """The sum of a block of words, with memory that is used again for the next block."""

  def __init__(self, height: int, width: int):
    self._mixed = np.empty((height, width), np.uint64)
    self._shifted = np.empty((height, width), np.uint64)

  def __call__(self, words: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> int:
    """words [R C], the place of each row's first element [R], columns [C] -> sum mod 2**64."""
    mixed = self._mixed[: words.shape[0], : words.shape[1]]
    shifted = self._shifted[: words.shape[0], : words.shape[1]]
    np.add((rows * _PLACE)[:, None], columns * _PLACE, out=mixed)
    np.add(mixed, words, out=mixed)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2), (31, None)):
      np.right_shift(mixed, np.uint64(shift), out=shifted)
      np.bitwise_xor(mixed, shifted, out=mixed)
      if factor is not None:
        np.multiply(mixed, factor, out=mixed)
    return int(mixed.sum(dtype=np.uint64))


def linear(words: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> int:
  """The sum of a block as format 1 had it, modulo 2**32."""
  place = (rows[:, None] + columns).astype(np.uint32)
  factor = place * _LINEAR + np.uint32(1)
  return int((words.astype(np.uint32) * factor).sum(dtype=np.uint32))


def _stripes(box: Box) -> list[Box]:
  """A box cut along its first axis into pieces that are worth a thread."""
  count = min(_THREADS, box.value.size // _STRIPE, box.value.shape[0] if box.value.ndim else 1)
  if count <= 1:
    return [box]
  cuts = [len(box.value) * number // count for number in range(count + 1)]
  return [
    Box((box.start[0] + first, *box.start[1:]), box.value[first:last])
    for first, last in itertools.pairwise(cuts)
  ]


def _plain(x):
  """`x` without its type of PRNG keys: those are stored as numbers."""
  if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
    return jax.random.key_data(x)
  return x


def _first_replica(x) -> list:
  if not isinstance(x, jax.Array):
    return []
  return [shard for shard in x.addressable_shards if shard.replica_id == 0]


def _start(index: Sequence[slice]) -> tuple[int, ...]:
  return tuple(part.start or 0 for part in index)


def _words(x: np.ndarray) -> np.ndarray:
  """The bytes of an array as unsigned integers of its elements' size, little-endian, at least 1-D.

  Elements of 16 bytes are two words, side by side in the last axis.
  """
  x = np.ascontiguousarray(x)  # At least 1-D.
  size = min(x.dtype.itemsize, 8)
  return x.view(np.dtype(f"<u{size}"))


def _places(part: Sequence[int], start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
  """The row-major places in `shape` of all elements of a part of it, in row-major order."""
  places = np.zeros(1, np.uint64)
  for size, first, whole in zip(part, start, shape, strict=True):
    along = np.arange(size, dtype=np.uint64) + np.uint64(first)
    places = (places[:, None] * np.uint64(whole) + along).reshape(-1)
  assert len(places) == math.prod(part)
  return places
