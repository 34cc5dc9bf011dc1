# SPDX-License-Identifier: Apache-2.0
"""Layouts against NumPy spelled out, and that any slice read is the slice of the whole."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from filax.convert import layout, tensor_map

CASES = {  # layout -> (our shape, their tensor from ours)
  "D H d -> (H d) D": ((3, 2, 4), lambda x: x.reshape(3, 8).T),
  "H d E -> E (H d)": ((2, 4, 5), lambda x: x.reshape(8, 5).T),
  "H d -> (H d)": ((2, 4), lambda x: x.reshape(8)),
  "h w c E -> E c h w": ((2, 3, 4, 5), lambda x: x.transpose(3, 2, 0, 1)),
  "h w c E -> E c 1 h w": ((2, 3, 4, 5), lambda x: x.transpose(3, 2, 0, 1)[:, :, None]),
  "N E -> 1 N E": ((2, 3), lambda x: x[None]),
  "V D -> V D": ((8, 3), lambda x: x[:6]),
  "D V -> V D": ((3, 8), lambda x: x[:, :6].T),
  "D -> D": ((5,), lambda x: x),
}


def filled(shape, text):
  """Distinct numbers; padding rows of the vocabulary are zero, as an import leaves them."""
  x = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
  if "V" in text:
    x[
      tuple(slice(6, None) if a == "V" else slice(None) for a in layout.parse_layout(text).ours)
    ] = 0
  return x


@pytest.mark.parametrize("text", CASES)
def test_both_ways(text):
  shape, theirs = CASES[text]
  rule, x = layout.parse_layout(text), filled(shape, text)
  tensor = rule.to_tensor(x, 6)
  np.testing.assert_array_equal(tensor, theirs(x))
  assert tensor.flags.c_contiguous and tensor.shape == rule.tensor_shape(shape, 6)
  whole = tuple(slice(None) for _ in shape)
  np.testing.assert_array_equal(rule.from_tensor(tensor, shape, whole, 6), x)


@given(st.sampled_from(sorted(CASES)), st.data())
def test_any_slice_is_that_of_the_whole(text, data):
  shape, _ = CASES[text]
  rule, x = layout.parse_layout(text), filled(shape, text)
  index = []
  for size in shape:
    start = data.draw(st.integers(0, size - 1))
    index.append(slice(start, data.draw(st.integers(start + 1, size))))
  tensor = rule.to_tensor(x, 6)
  np.testing.assert_array_equal(rule.from_tensor(tensor, shape, tuple(index), 6), x[tuple(index)])


def test_only_the_rows_that_are_needed_are_read():
  class Lazy:
    dtype = np.dtype(np.float32)

    def __init__(self, x):
      self.x, self.numbers = x, 0

    def __getitem__(self, index):
      found = self.x[index]
      self.numbers += found.size
      return found

  rule, x = layout.parse_layout("D H d -> (H d) D"), filled((8, 4, 2), "")
  lazy = Lazy(rule.to_tensor(x))
  part = (slice(0, 4), slice(1, 2), slice(None))
  np.testing.assert_array_equal(rule.from_tensor(lazy, x.shape, part), x[part])
  assert lazy.numbers == x[part].size


def test_axes_that_differ_are_refused():
  with pytest.raises(ValueError, match="different axes"):
    layout.parse_layout("D H -> D d")
  with pytest.raises(ValueError, match="does not have the axes"):
    layout.parse_layout("D H -> H D").tensor_shape((1, 2, 3))


def test_a_share_of_a_tensor_is_cut_like_a_tensor():
  rows = tensor_map.RowShare(np.arange(24).reshape(12, 2), (1, 3))
  np.testing.assert_array_equal(rows[1:3, :1], [[10], [12]])
