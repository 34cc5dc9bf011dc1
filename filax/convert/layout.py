# SPDX-License-Identifier: Apache-2.0
"""How an array of ours lies beside one of theirs: "D H d -> (H d) D".

Left are the axes of our parameter (without the stacked layers), right those of the tensor: the same
letters in their order, in brackets where they are one axis there, 1 for an axis of size one. `V` is
the axis of vocabulary rows, which we pad and they do not.
"""

import dataclasses
import functools
import math

import numpy as np

VOCABULARY = "V"


@dataclasses.dataclass(frozen=True)
class Layout:
  """One row's layout. Build it with `parse`, which caches."""

  ours: tuple[str, ...]
  theirs: tuple[tuple[str, ...], ...]  # () is an axis of size one.

  @property
  def flat(self) -> tuple[str, ...]:
    """Their axes without brackets."""
    return tuple(axis for group in self.theirs for axis in group)

  def sizes(self, shape: tuple[int, ...], vocab: int = 0) -> dict[str, int]:
    """Letter -> size in the tensor, for our `shape`; ValueError if the ranks differ."""
    if len(shape) != len(self.ours):
      raise ValueError(f"a parameter of shape {shape} does not have the axes {' '.join(self.ours)}")
    sizes = dict(zip(self.ours, shape, strict=True))
    return sizes | ({VOCABULARY: vocab} if VOCABULARY in sizes else {})

  def their_shape(self, shape: tuple[int, ...], vocab: int = 0) -> tuple[int, ...]:
    """The shape of the tensor behind a parameter (one layer) of `shape`."""
    sizes = self.sizes(shape, vocab)
    return tuple(math.prod(sizes[axis] for axis in group) for group in self.theirs)

  def write(self, x: np.ndarray, vocab: int = 0) -> np.ndarray:
    """Our array -> their tensor, contiguous, without padding rows."""
    shape = self.their_shape(x.shape, vocab)
    if VOCABULARY in self.ours:
      x = x[tuple(slice(vocab) if axis == VOCABULARY else slice(None) for axis in self.ours)]
    return np.ascontiguousarray(x.transpose([self.ours.index(a) for a in self.flat])).reshape(shape)

  def read(self, tensor, shape: tuple[int, ...], index: tuple[slice, ...], vocab: int = 0):
    """`ours[index]` from a lazy tensor (anything that slices), for our full `shape`.

    Of the file only the rows and columns that the index touches are read, as far as they are one
    stretch: the first letter of each bracket is cut there, the others in memory. Padding is zero.
    """
    sizes = self.sizes(shape, vocab)
    whole = dict(zip(self.ours, shape, strict=True))
    cut = {axis: range(whole[axis])[part] for axis, part in zip(self.ours, index, strict=True)}
    stored = {axis: range(cut[axis].start, min(cut[axis].stop, sizes[axis])) for axis in cut}
    if any(not len(part) for part in stored.values()):
      return np.zeros([len(cut[axis]) for axis in self.ours], tensor.dtype)
    theirs, lengths = [], []
    for group in self.theirs:
      inner = math.prod(sizes[axis] for axis in group[1:])
      first = stored[group[0]] if group else range(1)
      theirs.append(slice(first.start * inner, first.stop * inner))
      lengths += [len(first), *(sizes[a] for a in group[1:])] if group else []
    x = tensor[tuple(theirs)].reshape(lengths)
    x = x.transpose([self.flat.index(axis) for axis in self.ours])
    leading = {group[0] for group in self.theirs if group}
    x = x[
      tuple(
        slice(None) if axis in leading else slice(stored[axis].start, stored[axis].stop)
        for axis in self.ours
      )
    ]
    padding = [(0, len(cut[axis]) - len(stored[axis])) for axis in self.ours]
    return np.pad(x, padding) if any(after for _, after in padding) else x


@functools.cache
def parse(text: str) -> Layout:
  """ "D H d -> (H d) D" -> Layout. Raises ValueError if a letter is on one side only."""
  left, _, right = text.partition("->")
  ours = tuple(left.split())
  theirs, inside = [], False
  for token in right.replace("(", " ( ").replace(")", " ) ").split():
    if token == "(":
      theirs.append(())
      inside = True
    elif token == ")":
      inside = False
    elif inside:
      theirs[-1] += (token,)
    else:
      theirs.append(() if token == "1" else (token,))
  layout = Layout(ours, tuple(theirs))
  if sorted(layout.flat) != sorted(ours):
    raise ValueError(f"layout {text!r} names different axes on its two sides")
  return layout
