# SPDX-License-Identifier: Apache-2.0
"""Tiles without a visible key are never computed, forward and backward, in any layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops.attention import dense, tiles
from filax.ops.attention.blockwise import blockwise
from filax.parallel import mesh, zigzag

LENGTH, BLOCK = 64, 8


def packed(*tokens):
  """(segment, place) [1 L] of samples one after the other, padding last."""
  filled = np.repeat(np.arange(len(tokens)) + 1, tokens)
  segment = np.zeros((1, LENGTH), np.int32)
  segment[0, : len(filled)] = filled
  return jnp.asarray(segment), jnp.arange(LENGTH, dtype=jnp.int32)[None]


def in_zigzag_order(at, device):
  """What one of two devices holds."""
  mine = zigzag.order(LENGTH, 2).reshape(2, -1)[device]
  return tuple(x[:, mine] for x in at)


def behind_a_cache(at, start):
  """Queries from place `start` on."""
  return tuple(x[:, start:] for x in at)


CAUSAL = packed(LENGTH)
SAMPLES = packed(16, 19, 13, 9)
CASES = {  # name -> (places of queries, places of keys)
  "causal": (CAUSAL, CAUSAL),
  "packed": (SAMPLES, SAMPLES),
  "zig-zag, first device": (in_zigzag_order(SAMPLES, 0), SAMPLES),
  "zig-zag, second device": (in_zigzag_order(CAUSAL, 1), CAUSAL),
  "chunk of a prompt": (tuple(x[:, 24:40] for x in CAUSAL), CAUSAL),
  "one token": (behind_a_cache(CAUSAL, LENGTH - 1), CAUSAL),
  "no key": ((CAUSAL[0] + 1, CAUSAL[1]), CAUSAL),
}


def live_tiles(q_at, kv_at) -> int:
  """The number of tiles with a visible key, from the whole mask."""
  mask = np.asarray(dense.visible(q_at, kv_at))[0]
  rows = -(-mask.shape[0] // BLOCK)
  mask = np.pad(mask, ((0, rows * BLOCK - mask.shape[0]), (0, 0)))
  return int(mask.reshape(rows, BLOCK, -1, BLOCK).any((1, 3)).sum())


class Counted:
  """`blockwise` with gradients, and which tiles its programs compute."""

  def __init__(self):
    self.masked = []  # Whether a mask was needed, for every tile.
    self.run = jax.jit(lambda q_at, kv_at, *x: with_gradients(self.attend, q_at, kv_at, *x))

  def attend(self, q, k, v, q_at, kv_at):
    return blockwise(q, k, v, q_at, kv_at, BLOCK)

  def visit(self, schedule, step, carry):
    def counting_step(block, carry, masked):
      jax.debug.callback(lambda: self.masked.append(masked))
      return step(block, carry, masked)

    return VISIT(schedule, counting_step, carry)

  def count(self, q_at, kv_at, *x):
    """Runs the program; tiles of the forward and the backward pass together."""
    self.masked.clear()
    values = jax.block_until_ready(self.run(q_at, kv_at, *x))
    jax.effects_barrier()
    return values


VISIT = tiles.visit


@pytest.fixture(scope="module")
def counted():
  with pytest.MonkeyPatch.context() as patch:
    program = Counted()
    patch.setattr(tiles, "visit", program.visit)
    yield program


def arrays(q_at, kv_at, batch=1):
  rng = np.random.default_rng(0)
  length = q_at[0].shape[1]
  keys = kv_at[0].shape[1]
  shapes = [(batch, length, 4, 8), (batch, keys, 2, 8), (batch, keys, 2, 8), (batch, length, 4, 8)]
  return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def with_gradients(attend, q_at, kv_at, q, k, v, cotangent):
  out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, q_at, kv_at), q, k, v)
  return out, *pull(cotangent)


@jax.jit
def exact(q_at, kv_at, *x):
  """Dense attention, zero for queries without keys."""
  has_keys = dense.visible(q_at, kv_at).any(-1)[..., None, None]
  return with_gradients(lambda *y: dense.dense(*y) * has_keys, q_at, kv_at, *x)


@pytest.mark.parametrize("case", CASES)
def test_only_tiles_with_visible_keys_are_computed(counted, case):
  q_at, kv_at = CASES[case]
  counted.count(q_at, kv_at, *arrays(q_at, kv_at))
  assert len(counted.masked) == 2 * live_tiles(q_at, kv_at)  # Forward and backward.


@pytest.mark.parametrize("case", CASES)
def test_skipping_changes_nothing(counted, case):
  q_at, kv_at = CASES[case]
  x = arrays(q_at, kv_at)
  values = counted.count(q_at, kv_at, *x)
  for value, wanted in zip(values, exact(q_at, kv_at, *x), strict=True):
    np.testing.assert_allclose(value, wanted, atol=5e-6, rtol=1e-5)


def test_only_the_diagonal_needs_a_mask(counted):
  counted.count(CAUSAL, CAUSAL, *arrays(CAUSAL, CAUSAL))
  blocks = LENGTH // BLOCK
  assert counted.masked.count(True) == 2 * blocks
  assert counted.masked.count(False) == blocks * (blocks - 1)


def test_each_row_skips_by_itself(counted):
  at = tuple(jnp.concatenate(pair) for pair in zip(CAUSAL, SAMPLES, strict=True))
  counted.count(at, at, *arrays(at, at, batch=2))
  assert len(counted.masked) == 2 * (live_tiles(CAUSAL, CAUSAL) + live_tiles(SAMPLES, SAMPLES))


def test_rows_that_a_mesh_shares_are_skipped_together():
  """Taking rows apart would gather them on every device."""
  at = tuple(jnp.concatenate(pair) for pair in zip(CAUSAL, SAMPLES, strict=True))
  x = arrays(at, at, batch=2)
  layout = mesh.make_mesh(dict(data=2, fsdp=1, seq=1, tensor=1), jax.devices()[:2])
  with jax.set_mesh(layout):
    spread = jax.device_put(x, jax.NamedSharding(layout, jax.P("data")))
    out = jax.jit(lambda q, k, v: blockwise(q, k, v, at, at, BLOCK))(*spread[:3])
  np.testing.assert_allclose(out, exact(at, at, *x)[0], atol=5e-6)


@pytest.mark.parametrize(
  ("queries", "keys", "full", "live"),
  [
    ([0, 1, 2], [0, 1], 0, 1),  # The first query does not see the last key.
    ([0, 1, 2], [2, 3], 0, 1),  # The last query sees the first key alone.
    ([0, 1, 2], [3, 4], 0, 0),
    ([1, 2], [0, 1], 1, 1),
    ([1, 2], [0, 1, 2], 0, 1),
  ],
)
def test_the_kind_of_a_tile_by_its_places(queries, keys, full, live):
  """Tiles of any size: they begin anywhere behind a cache."""
  q_at, kv_at = (
    (jnp.ones((1, 1, len(places)), jnp.int32), jnp.array([[places]])) for places in (queries, keys)
  )
  schedule = tiles.schedule(q_at, kv_at, rows=1)
  assert (int(schedule.full.item()), int(schedule.live.item())) == (full, live)
