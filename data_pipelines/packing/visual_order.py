# SPDX-License-Identifier: Apache-2.0
"""The order in which the model reads the visual tokens of a timeline, newlines included.

A pattern is i32 [M]. An entry is NEWLINE, or an index into the tokens of the timeline: those of its
groups (or views), one after the other, each row by row. The array `visual_index` of a packed row
holds patterns that are shifted to the visual table of the row.
"""

import numpy as np

from data_pipelines.packing.tiles import Views
from filax.spec import VisualLayout
from filax.spec.visual_order import NEWLINE as NEWLINE
from filax.spec.visual_order import video_order as video_order


def image(views: Views, layout: VisualLayout) -> np.ndarray:
  """The pattern of an image.

  Without tiles, it is one view and a newline. With tiles, it is the overview, and then the mosaic
  of the tiles, without padding and with a newline after each row of tokens. In newline mode "none",
  there are no newlines.
  """
  rows, columns = layout.image_grid
  has_newlines = layout.newline != "none"
  tokens_of_view = rows * columns
  overview = np.arange(tokens_of_view, dtype=np.int32)
  if not views.tiles:
    return _with_newline(overview) if has_newlines else overview
  tile_tokens = tokens_of_view + np.arange(views.tiles * tokens_of_view, dtype=np.int32)
  tiles = tile_tokens.reshape(views.rows, views.columns, rows, columns)
  height = views.rows * rows
  width = views.columns * columns
  mosaic = tiles.swapaxes(1, 2).reshape(height, width)
  mosaic = views.unpad(mosaic)
  order = _with_row_newlines(mosaic) if has_newlines else mosaic.ravel()
  return np.concatenate([overview, order])


def placed(pattern: np.ndarray, first: int, newline: int) -> np.ndarray:
  """Shifts a pattern to row `first` of the visual table."""
  index = np.where(pattern == NEWLINE, newline, pattern + first)
  return index.astype(np.int32)


def _with_newline(index: np.ndarray) -> np.ndarray:
  """Adds a newline at the end: [m] -> [m+1]."""
  return np.append(index, np.int32(NEWLINE))


def _with_row_newlines(rows: np.ndarray) -> np.ndarray:
  """Adds a newline to each row: [r c] -> [r*(c+1)]."""
  newlines = np.full((len(rows), 1), NEWLINE, rows.dtype)
  return np.concatenate([rows, newlines], axis=1).ravel()
