# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from filax.parallel import mesh, zigzag
from filax.spec import RowShape


def test_every_device_has_an_early_and_a_late_chunk():
  np.testing.assert_array_equal(zigzag.order(8, 2), [0, 1, 6, 7, 2, 3, 4, 5])
  assert sorted(zigzag.order(48, 4)) == list(range(48))


def test_natural_order_is_restored():
  x = np.arange(2 * 16 * 3).reshape(2, 16, 3)
  np.testing.assert_array_equal(zigzag.natural(x[:, zigzag.order(16, 4)], 4), x)


def test_a_length_that_does_not_split_names_the_knob():
  with pytest.raises(ValueError, match=r"config.data.rows to a multiple of 8"):
    zigzag.order(12, 4)


def test_lay_moves_the_row_and_remembers_places():
  row = RowShape(frames=3, images=0, length=16, segments=2).zeros(8)
  row["tokens"] = np.arange(16, dtype=np.int32)
  batch = {key: np.stack([value] * 2) for key, value in row.items()}
  assert "place" not in zigzag.reorder(batch)
  with jax.set_mesh(mesh.make_mesh(dict(data=2, fsdp=1, seq=4, tensor=1))):
    laid = jax.jit(zigzag.reorder)(batch)
  np.testing.assert_array_equal(laid["tokens"], laid["place"])
  np.testing.assert_array_equal(laid["tokens"][0], zigzag.order(16, 4))
  assert laid["frames"].shape == batch["frames"].shape
