# SPDX-License-Identifier: Apache-2.0
"""Digests see every change, and are the same however an array is spread."""

import hypothesis
from hypothesis import strategies
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from filax.checkpoint import digest

RNG = np.random.default_rng(0)


def sum_of(x: np.ndarray) -> int:
  return digest.box_sum(x, (0,) * x.ndim, x.shape) % 2**64


def normal(*shape) -> np.ndarray:
  return RNG.normal(size=shape).astype(np.float32)


def test_pairs_of_sign_bits_do_not_cancel():
  x = normal(64, 64)
  pair = x.copy()
  pair.ravel()[[5, 1000]] *= -1
  changed = [x, pair, -x, np.abs(x), -np.abs(x), np.zeros_like(x), -np.zeros_like(x)]
  assert len({sum_of(y) for y in changed}) == len(changed)


@pytest.mark.parametrize("bit", range(16))
def test_a_stuck_or_flipped_bit_of_all_elements_is_seen(bit):
  words = RNG.integers(0, 2**16, size=(4, 8, 32)).astype(np.uint16)
  mask = np.uint16(1 << bit)
  changed = [words, words ^ mask, words | mask, words & ~mask]
  assert len({sum_of(y.view(ml_dtypes.bfloat16)) for y in changed}) == 4


def test_an_even_number_of_flips_in_any_pattern_is_seen():
  """Two and four flips of the same bit, in rectangles and in lines, of equal values."""
  for x in (np.zeros((16, 16), np.uint32), np.full((16, 16), 0x3F800000, np.uint32)):
    for bit in (0, 15, 30, 31):
      seen = {sum_of(x)}
      for flips in ([(0, 0), (0, 1)], [(0, 0), (1, 0)], [(0, 0), (0, 8), (8, 0), (8, 8)]):
        changed = x.copy()
        for place in flips:
          changed[place] ^= np.uint32(1 << bit)
        seen.add(sum_of(changed))
      assert len(seen) == 4


def test_moved_values_are_seen():
  x = normal(6, 10)
  moved = [x, x[::-1], x[:, ::-1], np.roll(x, 1), np.roll(x, 1, axis=0), np.sort(x, axis=1)]
  assert len({sum_of(y) for y in moved}) == len(moved)


def test_the_text_tells_dtype_and_shape():
  x = np.zeros((2, 3), ml_dtypes.bfloat16)
  assert digest.digest_text(x.dtype, x.shape, 255) == "bfloat16[2,3]:00000000000000ff"


@pytest.mark.parametrize(
  "x",
  [
    np.float32(1.5),
    np.zeros((0, 3), np.float32),
    np.arange(7, dtype=np.uint8),
    np.arange(5, dtype=np.int32) > 2,
    normal(3, 1),
    normal(1, 3),
    normal(2, 3, 4, 5),
    normal(40).astype(ml_dtypes.bfloat16),
    normal(2, 40_000),
    normal(70_000),
    normal(40).astype(ml_dtypes.float8_e4m3fn),
    (normal(5) + 1j).astype(np.complex128),
  ],
  ids=lambda x: f"{x.dtype}{x.shape}",
)
def test_any_dtype_and_shape_adds_up(x):
  """The sum of the elements one by one, in Python's own integers, and of two halves."""
  x = np.asarray(x)
  total = 0
  words = np.ascontiguousarray(x).view(f"<u{min(8, x.dtype.itemsize)}").reshape(-1)
  for place, word in enumerate(words[:2000].tolist()):
    mixed = (word + place * 0x9E3779B97F4A7C15) % 2**64
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
    total += mixed ^ mixed >> 31
  if words.size <= 2000:
    assert sum_of(x) == total % 2**64
  if x.ndim and x.size:
    half = x.shape[-1] // 2
    start = (0,) * (x.ndim - 1)
    parts = [
      digest.box_sum(x[..., :half], (*start, 0), x.shape),
      digest.box_sum(x[..., half:], (*start, half), x.shape),
    ]
    assert sum(parts) % 2**64 == sum_of(x)


@hypothesis.given(
  sizes=strategies.lists(strategies.integers(1, 6), min_size=1, max_size=4),
  cuts=strategies.lists(strategies.integers(1, 3), min_size=4, max_size=4),
)
def test_any_grid_of_parts_adds_up(sizes, cuts):
  x = RNG.integers(0, 2**32, size=sizes).astype(np.uint32)
  edges = [
    np.linspace(0, size, cut + 1).astype(int) for size, cut in zip(sizes, cuts, strict=False)
  ]
  total = 0
  for corner in np.ndindex(*(len(edge) - 1 for edge in edges)):
    start = [int(edge[at]) for edge, at in zip(edges, corner, strict=True)]
    end = [int(edge[at + 1]) for edge, at in zip(edges, corner, strict=True)]
    part = x[tuple(map(slice, start, end))]
    total += digest.box_sum(part, start, x.shape)
  assert total % 2**64 == sum_of(x)


@pytest.mark.parametrize(
  "spec",
  [
    jax.P(),
    jax.P("a"),
    jax.P(None, "a"),
    jax.P(None, None, "b"),
    jax.P(None, "a", "b"),
    jax.P(None, ("a", "b")),
    jax.P(None, "b", "a"),
  ],
  ids=str,
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.uint8])
def test_every_mesh_gives_the_same(spec, dtype):
  """[layers, …] arrays cut on inner axes, too; both ways of copying them to the host."""
  mesh = jax.make_mesh((4, 2), ("a", "b"))
  host = RNG.integers(0, 255, size=(4, 8, 8)).astype(dtype)
  x = jax.device_put(host, jax.NamedSharding(mesh, spec))
  parts = digest.host_parts({"x": x})
  assert digest.totals(parts) == {"x": sum_of(host)}
  sums = {}
  for box in digest.held_boxes(x):
    for replica in box.replicas:
      sums[replica] = sums.get(replica, 0) + digest.box_sum(box.value, box.start, x.shape)
  assert {total % 2**64 for total in sums.values()} == {sum_of(host)}


def test_large_arrays_are_shared_by_threads():
  x = RNG.integers(0, 2**32, size=(3, 1 << 20), dtype=np.uint32)
  assert sum(digest.box_sums([digest.Box((0, 0), x)], x.shape)) % 2**64 == sum_of(x)
  x = x.reshape(-1)
  assert sum(digest.box_sums([digest.Box((0,), x)], x.shape)) % 2**64 == sum_of(x)
  parts = [digest.Box((0,), x[:1000]), digest.Box((1000,), x[1000:])]
  assert sum(digest.box_sums(parts, x.shape)) % 2**64 == sum_of(x)


def test_keys_and_trees():
  key = jax.random.key(3)
  tree = {"key": key, "data": jax.random.key_data(key), "step": jnp.int32(4)}
  sums = digest.digests(tree)
  assert sums["key"] == sums["data"] != sums["step"]
