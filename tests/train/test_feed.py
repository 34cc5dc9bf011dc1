# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from filax.parallel import mesh as mesh_lib
from filax.testing import row_source
from filax.train import batches


@pytest.mark.parametrize(
  "sizes", [dict(data=8, fsdp=1), dict(data=2, fsdp=4), dict(data=1, fsdp=2, seq=2, tensor=2)]
)
def test_rows_and_frames_are_laid_out(sizes):
  mesh = mesh_lib.make_mesh(sizes)
  assert batches.process_share(mesh) == batches.ProcessShare(0, 1, 0, 1)  # One process loads all.
  batch = row_source.random_batch(8)
  placed = batches.place_batch(batch, mesh)
  assert placed.keys() == batch.keys()
  for key, x in placed.items():
    np.testing.assert_array_equal(x, batch[key], err_msg=key)
    assert x.dtype == batch[key].dtype
    shard = x.sharding.shard_shape(x.shape)
    assert shard[0] == 8 // (mesh.shape["data"] * mesh.shape["fsdp"])
    if key.startswith("frame"):
      assert shard[1] == 6 // mesh.shape["seq"]


def test_frames_that_do_not_split_over_seq_stay_whole():
  mesh = mesh_lib.make_mesh(dict(data=1, fsdp=2, seq=4))
  frames = batches.place_batch(row_source.random_batch(8), mesh)["frames"]
  assert frames.sharding.shard_shape(frames.shape)[:2] == (4, 6)


def test_what_one_process_masked_is_masked_for_all():
  """Processes of a row, played by halves of the axis seq or tensor."""
  mesh = mesh_lib.make_mesh(dict(data=1, fsdp=2, seq=2, tensor=2))
  mask = row_source.random_batch(8)["loss_mask"]
  got = batches.agree_on("loss_mask", mask, mesh, batches.ProcessShare(0, 1, 0, 1))
  np.testing.assert_array_equal(got, mask)
  assert got.sharding.shard_shape(got.shape) == (4, 32)
  seen = np.stack([mask, mask * (np.arange(32) > 15)], axis=1)
  reduce = batches._reduce_views("loss_mask", jax.NamedSharding(mesh, jax.P()))
  for views in (seen[:, :, None], seen[:, None]):
    np.testing.assert_array_equal(reduce(views), mask * (np.arange(32) > 15))


class Device:
  """What `share` reads of a jax.Device."""

  def __init__(self, process_index):
    self.process_index = process_index


def mesh_of(owners):
  """A mesh of the axes (data, fsdp, seq, tensor) whose devices belong to the given processes."""
  devices = np.vectorize(Device, otypes=[object])(np.asarray(owners))
  return type("Mesh", (), {"devices": devices})()


@pytest.mark.parametrize(
  "owners, expected",
  [
    ([[[[0]], [[0]], [[1]], [[1]]]], batches.ProcessShare(0, 2, 0, 1)),  # Rows are shared out.
    ([[[[0], [0], [1], [1]]]], batches.ProcessShare(0, 1, 0, 2)),  # A row's frames are.
    ([[[[0], [1]]], [[[2], [3]]]], batches.ProcessShare(0, 2, 0, 2)),  # Both.
    ([[[[0, 1]]], [[[0, 1]]]], batches.ProcessShare(0, 1, 0, 1, 2)),  # Both load the same.
    ([[[[1]], [[0]]]], batches.ProcessShare(1, 2, 0, 1)),
  ],
)
def test_a_process_loads_what_its_devices_hold(owners, expected):
  assert jax.process_index() == 0
  assert batches.process_share(mesh_of(owners)) == expected


def test_a_process_whose_devices_lie_apart_is_an_error():
  with pytest.raises(ValueError, match=r"parts \[0, 2\] of 4 .* config\.mesh"):
    batches.process_share(mesh_of([[[[0]], [[1]], [[0]], [[1]]]]))


def test_a_process_holds_an_aligned_run_of_parts():
  assert batches._aligned_block(np.array([False, False, True, True])) == (1, 2)
  for held in ([False, True, True, False], [True, False, True, False]):
    with pytest.raises(ValueError, match="which is not an equal run"):
      batches._aligned_block(np.array(held))
