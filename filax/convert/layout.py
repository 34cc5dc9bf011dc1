# SPDX-License-Identifier: Apache-2.0
"""Layouts of our parameters in PyTorch tensors.

For example "D H d -> (H d) D". On the left are the axes of our parameter (without the stacked
layers), on the right the axes of the tensor: the same letters in their order, in brackets if they
form one axis, 1 for an axis of size one. `V` is the axis of vocabulary rows, which only our
parameters pad.
"""

from collections.abc import Mapping
import dataclasses
import functools
import math

import numpy as np

VOCABULARY = "V"


@dataclasses.dataclass(frozen=True)
class TensorLayout:
  """The layout of one table row.

  `parse_layout` builds and caches it.
  """

  ours: tuple[str, ...]
  theirs: tuple[tuple[str, ...], ...]  # () is an axis of size one.

  @property
  def tensor_axes(self) -> tuple[str, ...]:
    """The tensor's axes without brackets."""
    return sum(self.theirs, ())

  def sizes(self, shape: tuple[int, ...], vocab: int = 0) -> dict[str, int]:
    """Letter -> size in the tensor, for our `shape`.

    Raises ValueError if the ranks differ.
    """
    if len(shape) != len(self.ours):
      raise ValueError(f"a parameter of shape {shape} does not have the axes {' '.join(self.ours)}")
    sizes = dict(zip(self.ours, shape, strict=True))
    if VOCABULARY in sizes:
      sizes[VOCABULARY] = vocab
    return sizes

  def tensor_shape(self, shape: tuple[int, ...], vocab: int = 0) -> tuple[int, ...]:
    """The shape of the tensor behind a parameter (one layer) of `shape`."""
    sizes = self.sizes(shape, vocab)
    return tuple(_product(sizes, group) for group in self.theirs)

  def to_tensor(self, x: np.ndarray, vocab: int = 0) -> np.ndarray:
    """Our array in the tensor's layout.

    The result is contiguous, and has no padding rows.
    """
    shape = self.tensor_shape(x.shape, vocab)
    if VOCABULARY in self.ours:
      axis = self.ours.index(VOCABULARY)
      x = x[(slice(None),) * axis + (slice(vocab),)]
    x = x.transpose([self.ours.index(letter) for letter in self.tensor_axes])
    return np.ascontiguousarray(x).reshape(shape)

  def from_tensor(
    self,
    tensor,
    shape: tuple[int, ...],
    index: tuple[slice, ...],
    vocab: int = 0,
  ):
    """`ours[index]` from a lazy tensor, for our full `shape`.

    `tensor` is anything that slices. Only the needed rows and columns of the file are read, as far
    as they are contiguous: the first letter of each bracket is cut in the file, the others in
    memory. Padding is zero.
    """
    sizes = self.sizes(shape, vocab)
    wanted = {}  # Letter -> range in the padded parameter.
    stored = {}  # Letter -> the part of that range in the tensor.
    for letter, size, part in zip(self.ours, shape, index, strict=True):
      span = range(size)[part]
      wanted[letter] = span
      stored[letter] = range(span.start, min(span.stop, sizes[letter]))
    out_shape = [len(wanted[letter]) for letter in self.ours]
    if not all(stored.values()):
      return np.zeros(out_shape, tensor.dtype)
    x = self._read_leading(tensor, sizes, stored)
    x = x.transpose([self.tensor_axes.index(letter) for letter in self.ours])
    x = x[self._inner_index(stored)]
    padding = []
    for size, out_size in zip(x.shape, out_shape, strict=True):
      padding.append((0, out_size - size))
    return np.pad(x, padding) if x.shape != tuple(out_shape) else x

  def _read_leading(self, tensor, sizes: Mapping[str, int], stored: Mapping[str, range]):
    """The tensor without brackets, cut along the first letter of each."""
    index = []
    lengths = []
    for group in self.theirs:
      if not group:
        index.append(slice(0, 1))
        continue
      first, *others = group
      step = _product(sizes, others)
      span = stored[first]
      index.append(slice(span.start * step, span.stop * step))
      lengths.append(len(span))
      lengths += [sizes[letter] for letter in others]
    return tensor[tuple(index)].reshape(lengths)

  def _inner_index(self, stored: Mapping[str, range]) -> tuple[slice, ...]:
    """The cut along all letters but the first of each bracket."""
    leading = [group[0] for group in self.theirs if group]
    index = []
    for letter in self.ours:
      span = stored[letter]
      index.append(slice(None) if letter in leading else slice(span.start, span.stop))
    return tuple(index)


def _product(sizes: Mapping[str, int], letters) -> int:
  return math.prod(sizes[letter] for letter in letters)


@functools.cache
def parse_layout(text: str) -> TensorLayout:
  """Parses "D H d -> (H d) D" into a TensorLayout.

  Raises ValueError if a letter is on one side only.
  """
  our_text, _, their_text = text.partition("->")
  ours = tuple(our_text.split())
  theirs: list[tuple[str, ...]] = []
  inside = False
  for token in their_text.replace("(", " ( ").replace(")", " ) ").split():
    if token == "(":
      theirs.append(())
      inside = True
    elif token == ")":
      inside = False
    elif inside:
      theirs[-1] += (token,)
    elif token == "1":
      theirs.append(())
    else:
      theirs.append((token,))
  layout = TensorLayout(ours, tuple(theirs))
  if sorted(layout.tensor_axes) != sorted(ours):
    raise ValueError(f"layout {text!r} names different axes on its two sides")
  return layout
