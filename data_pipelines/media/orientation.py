# SPDX-License-Identifier: Apache-2.0
"""Rotation and mirroring of frames, as given in their file."""

import math
from typing import NamedTuple, cast

import av
from av.sidedata.sidedata import SideDataContainer, Type
import numpy as np

_MATRIX = Type.DISPLAYMATRIX


class Orientation(NamedTuple):
  """One of eight orientations: mirrored left to right, then turned counter-clockwise."""

  turns: int = 0  # Quarter turns.
  mirrored: bool = False

  def shown_size(self, width: int, height: int) -> tuple[int, int]:
    """Converts (width, height) between stored and shown frames."""
    if self.turns % 2:
      return height, width
    return width, height

  def apply(self, picture: np.ndarray) -> np.ndarray:
    """A stored picture [h w 3] as it is shown; a view."""
    if self.mirrored:
      picture = picture[:, ::-1]
    return np.rot90(picture, self.turns)


def orientation(frame: av.VideoFrame) -> Orientation:
  """The orientation nearest to the display matrix of a frame.

  The matrix has nine numbers a b u / c d v / x y w, and moves the point (x, y) of a picture, y
  downwards, to (a x + c y, b x + d y).
  """
  all_side_data = cast(SideDataContainer, frame.side_data)  # The stub names another type.
  side_data = all_side_data.get(_MATRIX)
  if side_data is None:
    return Orientation()
  a, b, _, c, d, *_ = np.frombuffer(side_data, np.int32).tolist()
  determinant = a * d - b * c
  mirrored = determinant < 0
  if mirrored:
    a = -a
    b = -b
  clockwise = math.atan2(b - c, a + d)
  turns = round(-clockwise / (math.pi / 2))
  return Orientation(turns % 4, mirrored)
