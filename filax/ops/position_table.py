# SPDX-License-Identifier: Apache-2.0
"""Fixed sine and cosine positions of video clips, resampled to other sizes.

NumPy, float64.
"""

import functools

import numpy as np

from filax.ops.pooling import linear_operator


@functools.cache
def position_table(
  frames: int,
  side: int,
  width: int,
  trained: tuple[int, int],
) -> np.ndarray:
  """Positions of a clip, or of a picture if frames = 1.

  Returns float32 [frames·side² width]: sin and cos of the flat (frame, row, column) index among
  `trained` = (frames, side) places (a picture's: 1 frame), resampled along frames and bicubically
  along rows and columns.
  """
  trained_frames, trained_side = trained
  if frames == 1:
    trained_frames = 1
  table = sincos(trained_frames * trained_side**2, width)
  table = table.reshape(trained_frames, trained_side, trained_side, width)
  if trained_frames != frames:
    along_time = linear_operator(trained_frames, frames)
    table = np.einsum("ts,shwE->thwE", along_time, table)
  if trained_side != side:
    along_side = bicubic_operator(trained_side, side)
    table = np.einsum("ah,bw,thwE->tabE", along_side, along_side, table, optimize=True)
  return table.reshape(-1, width).astype(np.float32)


def sincos(count: int, width: int) -> np.ndarray:
  """Sine and cosine table, float64 [count width].

  sin (even channels) and cos (odd) of p / 10000^(2⌊j/2⌋ / width).
  """
  channel = np.arange(width)
  period = 10_000 ** (2 * (channel // 2) / width)
  angle = np.arange(count)[:, None] / period
  return np.where(channel % 2, np.cos(angle), np.sin(angle))


def bicubic_operator(size: int, out: int) -> np.ndarray:
  """Matrix of cubic resampling along one axis, float64 [out size].

  As in torch: a = -0.75, corners not aligned, no antialiasing, border repeated.
  """
  a = -0.75
  rows = np.arange(out)
  center = (rows + 0.5) * size / out - 0.5
  table = np.zeros((out, size))
  for step in (-1, 0, 1, 2):
    neighbour = np.floor(center) + step
    x = np.abs(center - neighbour)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    weight = np.where(x <= 1, near, far)
    column = np.clip(neighbour, 0, size - 1).astype(int)
    np.add.at(table, (rows, column), weight)
  return table
