# SPDX-License-Identifier: Apache-2.0
"""Integer linspace on the device against torch: where float64 falls below a whole number, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops.linspace import linspace

run = jax.jit(linspace)


def ours(count, picks):
  i = jnp.arange(8192, dtype=jnp.int32)  # One shape, one compilation.
  return np.asarray(run(i, jnp.full_like(i, count), jnp.full_like(i, picks)))[:picks]


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.75, 0.5, 0.25, 0.125])
def test_equals_torch(ratio):
  torch = pytest.importorskip("torch")
  for count in (*range(1, 200, 3), 55, 59, 63, 95, 142, 784, 1024, 3136, 8191, 8192):
    picks = int(count * ratio)
    expected = torch.linspace(0, count - 1, picks, dtype=torch.long).numpy()
    np.testing.assert_array_equal(ours(count, picks), expected, err_msg=f"{count} -> {picks}")


def test_whole_numbers_fall_as_in_float64():
  torch = pytest.importorskip("torch")
  wrong = 0
  for count, picks in ((46, 34), (51, 45), (55, 27), (63, 31), (109, 27), (148, 133), (189, 47)):
    expected = torch.linspace(0, count - 1, picks, dtype=torch.long).numpy()
    np.testing.assert_array_equal(ours(count, picks), expected)
    i = np.arange(picks)
    back = (picks - 1 - i) * (count - 1)
    exact = np.where(
      i < picks // 2, i * (count - 1) // (picks - 1), count - 1 + -back // (picks - 1)
    )
    wrong += (exact != expected).sum()
  assert wrong == 7  # The cases are hard: exact arithmetic picks other places.


def test_long_videos_and_any_input_stay_in_range():
  i = jnp.asarray([0, 1, 119_999, 60_000, 59_999, 119_998], jnp.int32)
  picked = run(i, jnp.full_like(i, 160_000), jnp.full_like(i, 120_000))
  step = 159_999 / 119_999
  expected = [0, 1, 159_999, int(159_999 - step * 59_999), int(59_999 * step), int(159_999 - step)]
  np.testing.assert_array_equal(picked, expected)
  zeros = jnp.zeros(3, jnp.int32)
  np.testing.assert_array_equal(run(jnp.arange(3), zeros, zeros), zeros)
