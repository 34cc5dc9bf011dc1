# SPDX-License-Identifier: Apache-2.0
"""The TPU kernel itself, interpreted on the CPU, against dense attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops.attention import dense, splash
from filax.parallel import mesh, zigzag

pytestmark = pytest.mark.slow

LENGTH, HEADS, KV_HEADS, DIM = 512, 4, 2, 128


@pytest.fixture(scope="module")
def arrays():
  rng = np.random.default_rng(0)
  shapes = [(2, LENGTH, heads, DIM) for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)]
  arrays = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]
  segment = jnp.asarray(
    np.stack([np.repeat([1, 2, 0], [150, 250, 112]), np.repeat([1, 2], [400, 112])]), jnp.int32
  )
  return (*arrays, (segment, jnp.broadcast_to(jnp.arange(LENGTH), (2, LENGTH))))


def run(attend, q, k, v, cotangent, at):
  out, pull = jax.vjp(lambda *x: attend(*x, at, at), q, k, v)
  return out, pull(cotangent)


@pytest.mark.parametrize(
  "seq,tensor,strategy", [(1, 1, "gather"), (4, 1, "gather"), (4, 1, "ulysses"), (2, 2, "gather")]
)
def test_equals_dense(arrays, seq, tensor, strategy):
  expected = run(dense.dense, *arrays)
  index = zigzag.order(LENGTH, seq) if seq > 1 else np.arange(LENGTH)
  with jax.set_mesh(
    mesh.make_mesh(dict(data=1, fsdp=2, seq=seq, tensor=tensor), jax.devices()[: 2 * seq * tensor])
  ):
    attend = splash.attend(strategy, interpret=True)
    found = jax.jit(lambda *x: run(attend, *x))(*jax.tree.map(lambda x: x[:, index], arrays))
  for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
    np.testing.assert_allclose(a[:, index], b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seq,strategy", [(1, "gather"), (2, "gather"), (2, "ulysses")])
def test_small_blocks_that_skip_segments_equal_dense(arrays, monkeypatch, seq, strategy):
  monkeypatch.setattr(splash, "_BLOCKS", (128,))
  test_equals_dense(arrays, seq, 1, strategy)


def test_blocks_of_other_segments_are_not_computed():
  """Two samples of 2048: 12 of the 20 causal blocks of 512 x 1024."""
  segment = jnp.repeat(jnp.asarray([[1, 2]]), 2048, axis=1)
  whole = splash._kernel(4096, 1, 1, 1, True)
  kernel = splash._without_strangers(whole, segment, segment)

  def live(kernel):
    infos = (kernel.fwd_mask_info, kernel.dq_mask_info, kernel.dkv_mask_info)
    return [int((info.block_mask > 0).sum()) for info in infos]

  assert live(whole) == [20] * 3
  assert live(kernel) == [12] * 3


def test_corners_give_the_same_block_table_as_every_place():
  class Whole(splash.CausalByCorners):
    def __getitem__(self, index):
      rows, columns = index
      return self.q_sequence[rows][:, None] >= np.arange(columns.start, columns.stop)[None]

  places = zigzag.order(1024, 4)

  def make(mask):
    return splash.kernels.make_splash_mha(
      splash.masks.MultiHeadMask([mask(1024, places)] * 2), head_shards=1, q_seq_shards=4
    )

  corners, whole = make(splash.CausalByCorners), make(Whole)
  same = jax.tree.map(lambda a, b: np.array_equal(a, b), corners, whole)
  assert jax.tree.all(same)


def test_a_row_that_does_not_split_names_the_knob():
  with pytest.raises(ValueError, match=r"config.data.rows to a multiple of 512"):
    splash._kernel(1000, 2, 4, 4, True)
  with jax.set_mesh(mesh.make_mesh(dict(data=1, fsdp=2, seq=4, tensor=1))):
    with pytest.raises(ValueError, match=r"has no sequence='ring'"):
      splash.attend("ring")
