# SPDX-License-Identifier: Apache-2.0
"""The order in which a timeline's visual tokens are read, newlines included.

A pattern is i32 [M]: indices into the timeline's own tokens (its groups' or views', one after the
other, row by row), or NEWLINE. `visual_index` is a pattern shifted to the row's visual table.
"""

import numpy as np

from data_pipelines.packing.tiles import Views
from filax.spec import VisualLayout
from filax.spec.visual_order import NEWLINE as NEWLINE
from filax.spec.visual_order import video_order as video_order

MODES = ("one_token", "grid", "frame", "none")


def image(views: Views, layout: VisualLayout) -> np.ndarray:
  """The pattern of an image.

  One view and a newline, or the overview and then the mosaic of tiles, without its padding and with
  a newline after each row. Newline mode none has no newlines.
  """
  rows, columns = layout.image_grid
  newlines = layout.newline != "none"
  view = rows * columns
  overview = np.arange(view, dtype=np.int32)
  if not views.tiles:
    return _with_newline(overview) if newlines else overview
  tiles = view + np.arange(views.tiles * view, dtype=np.int32)
  grid = tiles.reshape(views.rows, views.columns, rows, columns)
  height = views.rows * rows
  width = views.columns * columns
  mosaic = grid.swapaxes(1, 2).reshape(height, width)
  mosaic = views.unpad(mosaic)
  order = _with_row_newlines(mosaic) if newlines else mosaic.ravel()
  return np.concatenate([overview, order])


def placed(pattern: np.ndarray, first: int, newline: int) -> np.ndarray:
  """Shifts a pattern to row `first` of the visual table."""
  index = np.where(pattern == NEWLINE, newline, pattern + first)
  return index.astype(np.int32)


def _with_newline(index: np.ndarray) -> np.ndarray:
  """[m] -> [m+1]: a newline at the end."""
  return np.append(index, np.int32(NEWLINE))


def _with_row_newlines(rows: np.ndarray) -> np.ndarray:
  """[r c] -> [r*(c+1)]: a newline at the end of each row."""
  newlines = np.full((len(rows), 1), NEWLINE, rows.dtype)
  return np.concatenate([rows, newlines], axis=1).ravel()
