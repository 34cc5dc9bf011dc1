# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.parallel import frame_layout, mesh


@pytest.mark.parametrize(
  "sizes",
  [
    dict(data=1, fsdp=1, seq=1),
    dict(data=2, fsdp=2, seq=2),
    dict(data=1, fsdp=1, seq=8),
    dict(data=8, fsdp=1, seq=1),
  ],
)
@pytest.mark.parametrize("rows,total", [(4, 16), (8, 48), (3, 6), (1, 16)])
def test_there_and_back(rows, total, sizes):
  x = np.arange(rows * total * 3).reshape(rows, total, 3)
  devices = jax.devices()[: int(np.prod(list(sizes.values())))]
  with jax.set_mesh(mesh.make_mesh(sizes | dict(tensor=1), devices)):
    clips = jax.jit(lambda x: frame_layout.flatten(x, 2))(x)
    back = jax.jit(lambda x: frame_layout.unflatten(x, rows, total))(clips)
  assert clips.shape == (rows * total // 2, 2, 3)
  # A clip is two consecutive frames of one row, wherever it went.
  np.testing.assert_array_equal(np.asarray(clips)[:, 1] - np.asarray(clips)[:, 0], 3)
  np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("chunk", [2, 3, 4])
def test_steps_have_clips_of_every_device_and_join_again(chunk):
  """Two devices have the clips 0 to 3 and 4 to 7."""
  clips = jnp.arange(1, 9)[:, None]
  layout = frame_layout.FrameLayout(rows=2, parts=1)
  steps = frame_layout.cut(clips, layout, chunk)
  np.testing.assert_array_equal(steps[0, :chunk, 0], np.arange(1, 1 + chunk))
  np.testing.assert_array_equal(steps[0, chunk:, 0], np.arange(5, 5 + chunk))
  np.testing.assert_array_equal(frame_layout.joined(steps, layout, 8), clips)


def test_no_frame_moves():
  sizes = dict(data=2, fsdp=1, seq=4, tensor=1)
  layout = mesh.make_mesh(sizes)
  with jax.set_mesh(layout):
    sharding = jax.NamedSharding(layout, jax.P(("data", "fsdp"), "seq"))
    x = jax.device_put(jnp.zeros((4, 16, 5)), sharding)
    move = jax.jit(lambda x: frame_layout.unflatten(frame_layout.flatten(x, 2) + 1, 4, 16))
    text = move.lower(x).compile().as_text()
  assert not any(word in text for word in ("all-gather", "all-to-all", "collective-permute"))


def test_a_single_video_is_split_over_all_devices():
  layout = mesh.make_mesh(dict(data=4, seq=2))
  with jax.set_mesh(layout):
    clips = jax.jit(lambda x: frame_layout.flatten(x, 2))(jnp.zeros((1, 32, 3)))
  assert clips.addressable_shards[0].data.shape == (2, 2, 3)
