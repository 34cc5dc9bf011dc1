# SPDX-License-Identifier: Apache-2.0
"""How a file asks for its frames to be turned and mirrored."""

import math
from typing import NamedTuple

import av
import numpy as np

_MATRIX = av.sidedata.sidedata.Type.DISPLAYMATRIX


class Orientation(NamedTuple):
  """One of eight: mirrored left to right first, then turned counter-clockwise."""

  turns: int = 0  # Quarter turns.
  mirrored: bool = False

  def shown_size(self, width: int, height: int) -> tuple[int, int]:
    """(width, height) of stored frames -> of shown frames, and the other way."""
    return (height, width) if self.turns % 2 else (width, height)

  def apply(self, picture: np.ndarray) -> np.ndarray:
    """A stored picture [h w 3] as it is shown; a view."""
    return np.rot90(picture[:, ::-1] if self.mirrored else picture, self.turns)


def orientation(frame: av.VideoFrame) -> Orientation:
  """The orientation nearest to the display matrix of a frame.

  The matrix has nine numbers a b u / c d v / x y w, and moves the point (x, y) of a picture, y
  downwards, to (a x + c y, b x + d y).
  """
  side_data = frame.side_data.get(_MATRIX)
  if side_data is None:
    return Orientation()
  a, b, _, c, d, *_ = np.frombuffer(side_data, np.int32).tolist()
  mirrored = a * d - b * c < 0
  if mirrored:
    a, b = -a, -b
  clockwise = math.atan2(b - c, a + d)
  return Orientation(round(-clockwise / (math.pi / 2)) % 4, mirrored)
