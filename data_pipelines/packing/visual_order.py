# SPDX-License-Identifier: Apache-2.0
"""The order in which a timeline's visual tokens are read, newlines included.

A pattern is i32 [M]: indices into the timeline's own tokens (its groups' or views', one after the
other, row by row), or NEWLINE. `visual_index` is a pattern shifted to the row's visual table.
"""

import functools

import numpy as np

from data_pipelines.packing.tiles import Views
from filax.spec import VisualLayout

NEWLINE = -1
MODES = ("one_token", "grid", "frame", "none")


@functools.lru_cache(maxsize=256)
def video(groups: int, layout: VisualLayout) -> np.ndarray:
  """A video of `groups` groups of frames. Newlines: one_token, one after the whole video; grid,
  after every row of every group; frame, after every group; none. Shared: not to be written to."""
  rows, columns = layout.group_grid
  index = np.arange(groups * rows * columns, dtype=np.int32)
  if layout.newline == "one_token":
    index = np.append(index, np.int32(NEWLINE))
  elif width := {"grid": columns, "frame": rows * columns, "none": 0}[layout.newline]:
    index = _ended(index.reshape(-1, width)).ravel()
  index.flags.writeable = False
  return index


def image(views: Views, layout: VisualLayout) -> np.ndarray:
  """An image: one view and a newline, or the overview and then the tiles' mosaic, its padding cut
  off, a newline after each of its rows. No newlines in newline mode none."""
  rows, columns = layout.image_grid
  first = np.arange(rows * columns, dtype=np.int32)
  newline = layout.newline != "none"
  if not views.tiles:
    return np.append(first, np.int32(NEWLINE)) if newline else first
  mosaic = first.size + np.arange(views.tiles * first.size, dtype=np.int32)
  mosaic = mosaic.reshape(views.rows, views.columns, rows, columns).swapaxes(1, 2)
  mosaic = views.unpad(mosaic.reshape(views.rows * rows, views.columns * columns))
  return np.concatenate([first, (_ended(mosaic) if newline else mosaic).ravel()])


def placed(pattern: np.ndarray, first: int, newline: int) -> np.ndarray:
  """visual_index of a pattern whose token 0 is row `first` of the visual table."""
  return np.where(pattern == NEWLINE, newline, pattern + first).astype(np.int32)


def _ended(rows: np.ndarray) -> np.ndarray:
  """[r c] -> [r c+1]: a newline at the end of each row."""
  return np.pad(rows, ((0, 0), (0, 1)), constant_values=NEWLINE)
