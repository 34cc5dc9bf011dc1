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


@pytest.fixture
def computed(monkeypatch):
  """Whether a mask was needed, for every tile that a program computes."""
  record = []
  visit = tiles.visit

  def counting_visit(schedule, step, carry):
    def counting_step(block, carry, masked):
      jax.debug.callback(lambda: record.append(masked))
      return step(block, carry, masked)

    return visit(schedule, counting_step, carry)

  monkeypatch.setattr(tiles, "visit", counting_visit)
  return record


def arrays(q_at, kv_at, batch=1):
  rng = np.random.default_rng(0)
  length = q_at[0].shape[1]
  keys = kv_at[0].shape[1]
  shapes = [(batch, length, 4, 8), (batch, keys, 2, 8), (batch, keys, 2, 8), (batch, length, 4, 8)]
  return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def with_gradients(attend, q, k, v, cotangent):
  out, pull = jax.vjp(attend, q, k, v)
  return out, *pull(cotangent)


@pytest.mark.parametrize("case", CASES)
def test_only_tiles_with_visible_keys_are_computed(computed, case):
  q_at, kv_at = CASES[case]
  q, k, v, cotangent = arrays(q_at, kv_at)
  values = with_gradients(lambda *x: blockwise(*x, q_at, kv_at, BLOCK), q, k, v, cotangent)
  jax.block_until_ready(values)
  jax.effects_barrier()
  assert len(computed) == 2 * live_tiles(q_at, kv_at)  # Forward and backward.


@pytest.mark.parametrize("case", CASES)
def test_skipping_changes_nothing(case):
  q_at, kv_at = CASES[case]
  has_keys = np.asarray(dense.visible(q_at, kv_at)).any(-1)[..., None, None]
  *inputs, cotangent = arrays(q_at, kv_at)
  expected = with_gradients(lambda *x: dense.dense(*x, q_at, kv_at) * has_keys, *inputs, cotangent)
  values = with_gradients(lambda *x: blockwise(*x, q_at, kv_at, BLOCK), *inputs, cotangent)
  for value, wanted in zip(values, expected, strict=True):
    np.testing.assert_allclose(value, wanted, atol=5e-6, rtol=1e-5)


def test_only_the_diagonal_needs_a_mask(computed):
  q, k, v, _ = arrays(CAUSAL, CAUSAL)
  jax.block_until_ready(blockwise(q, k, v, CAUSAL, CAUSAL, BLOCK))
  jax.effects_barrier()
  blocks = LENGTH // BLOCK
  assert computed.count(True) == blocks
  assert computed.count(False) == blocks * (blocks - 1) // 2


def test_each_row_skips_by_itself(computed):
  at = tuple(jnp.concatenate(pair) for pair in zip(CAUSAL, SAMPLES, strict=True))
  q, k, v, _ = arrays(at, at, batch=2)
  jax.block_until_ready(blockwise(q, k, v, at, at, BLOCK))
  jax.effects_barrier()
  assert len(computed) == live_tiles(CAUSAL, CAUSAL) + live_tiles(SAMPLES, SAMPLES)


def test_rows_that_a_mesh_shares_are_skipped_together():
  """Taking rows apart would gather them on every device."""
  at = tuple(jnp.concatenate(pair) for pair in zip(CAUSAL, SAMPLES, strict=True))
  q, k, v, _ = arrays(at, at, batch=2)
  layout = mesh.make_mesh(dict(data=2, fsdp=1, seq=1, tensor=1), jax.devices()[:2])
  spread = jax.NamedSharding(layout, jax.P("data"))
  q, k, v = jax.device_put((q, k, v), spread)
  with jax.set_mesh(layout):
    out = jax.jit(lambda *x: blockwise(*x, at, at, BLOCK))(q, k, v)
  np.testing.assert_allclose(out, dense.dense(q, k, v, at, at), atol=5e-6)


def test_places_may_be_traced():
  """One program serves every layout."""
  q, k, v, _ = arrays(CAUSAL, CAUSAL)
  run = jax.jit(lambda at: blockwise(q, k, v, at, at, BLOCK))
  for at in (CAUSAL, SAMPLES):
    np.testing.assert_allclose(run(at), dense.dense(q, k, v, at, at), atol=5e-6)
  assert run._cache_size() == 1
