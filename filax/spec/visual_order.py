# SPDX-License-Identifier: Apache-2.0
"""The reading order of a video's visual tokens, newlines included."""

import functools

import numpy as np

from filax.spec.batch import VisualLayout

NEWLINE = -1


@functools.lru_cache(maxsize=256)
def video_order(groups: int, layout: VisualLayout) -> np.ndarray:
  """The reading order of a video's visual tokens, newlines included.

  Returns i32 [M]: indices into the tokens of `groups` groups of frames, group by group, or NEWLINE.
  The array is shared between callers and read-only. Places of newlines:

    one_token  one newline, after the whole video
    grid       after every row of every group
    frame      after every group
    none       no newlines
  """
  rows, columns = layout.group_grid
  index = np.arange(groups * rows * columns, dtype=np.int32)
  newline = np.int32(NEWLINE)
  if layout.newline == "one_token":
    index = np.append(index, newline)
  elif layout.newline != "none":
    width = {"grid": columns, "frame": rows * columns}[layout.newline]
    lines = index.reshape(-1, width)
    index = np.pad(lines, ((0, 0), (0, 1)), constant_values=NEWLINE).ravel()
  index.flags.writeable = False
  return index
