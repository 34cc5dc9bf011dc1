# SPDX-License-Identifier: Apache-2.0
"""The contents of a packed batch: the contract between data, model and evaluation.

Dimensions: R packed rows, T frames, I images, L text positions, S segments (samples) of a row, Q
query positions, h w pixels. All shapes are static: they come from a `RowShape`, and never from the
data. The *visual table* of a row consists of its video tokens (G groups of N'), its image tokens (I
images of N''), and one newline. This file needs only NumPy.
"""

import dataclasses
import math

import numpy as np

PADDING = 0  # The segment id of places that belong to no sample.
TEXT = -1  # visual_index of a place that holds a text token.

# key -> (dimensions, dtype). A batch consists of rows that are stacked along R.
BATCH = {
  "frames": ("R T h w 3", "uint8"),  # Video frames, normalised on the device.
  "frame_segment_ids": ("R T", "int32"),  # The sample a frame belongs to, from 1; 0 = padding.
  "frame_positions": ("R T", "int32"),  # Index of the frame in its sample.
  "frame_times": ("R T", "float32"),  # Seconds in the source (real pts).
  "images": ("R I h w 3", "uint8"),  # Stills and tiles: encoded one by one, never merged.
  "image_segment_ids": ("R I", "int32"),
  "tokens": ("R L", "int32"),  # Placeholders are expanded; their id is the pad id.
  "targets": ("R L", "int32"),  # The next token, within the segment.
  "loss_mask": ("R L", "float32"),  # 1 where targets is supervised.
  "segment_ids": ("R L", "int32"),  # Attention = same segment and causal; 0 = padding.
  "positions": ("R L", "int32"),  # RoPE positions, from 0 in every segment; may have gaps.
  "visual_index": ("R L", "int32"),  # TEXT, or a row of the row's visual table.
  "queries": ("R Q", "int32"),  # Visual dropout: query positions, -1 = padding.
  "keep": ("R stages S", "int32"),  # Visual dropout: visual tokens kept per stage and segment.
  "num_bad": ("R", "int32"),  # Samples masked because their media was unreadable.
}


@dataclasses.dataclass(frozen=True, order=True)
class RowShape:
  """The static size of a packed row.

  One program is compiled for each shape. A plan uses at most three shapes (its buckets).
  """

  frames: int  # T
  images: int  # I
  length: int  # L
  segments: int  # S
  queries: int = 0  # Q
  stages: int = 0  # The number of stages of visual dropout.
  room: tuple[int, ...] = ()  # The number of positions after every stage of visual dropout.

  def shapes(self, rows: int, size: int) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """key -> (shape, dtype) of every array in a batch.

    The batch has `rows` rows; pictures have `size` x `size` pixels.
    """
    sizes = dict(
      R=rows,
      T=self.frames,
      I=self.images,
      L=self.length,
      S=self.segments,
      Q=self.queries,
      stages=self.stages,
      h=size,
      w=size,
    )
    sizes["3"] = 3
    shapes = {}
    for key, (dims, dtype) in BATCH.items():
      shape = tuple(sizes[dim] for dim in dims.split())
      shapes[key] = (shape, np.dtype(dtype))
    return shapes

  def zeros(self, size: int) -> dict[str, np.ndarray]:
    """One empty row (no R): every place is padding."""
    row = {}
    for key, (shape, dtype) in self.shapes(1, size).items():
      row[key] = np.zeros(shape[1:], dtype)
    row["visual_index"][:] = TEXT
    row["queries"][:] = -1
    return row


@dataclasses.dataclass(frozen=True)
class VisualLayout:
  """Numbers of visual tokens per group and image, and newlines.

  This is all that the data pipeline knows about the model (`VideoLM.layout()`). With it, every
  length is known before a frame is decoded.
  """

  size: int  # Pixels of a picture's side.
  frames_per_group: int  # K
  group_grid: tuple[int, int]  # Rows and columns of the N' tokens of a group.
  image_grid: tuple[int, int]  # Rows and columns of the N'' tokens of an image or tile.
  newline: str = "one_token"  # one_token | grid | frame | none
  stages: tuple = ()  # The stages of visual dropout (filax.spec.dropout_stages.Stage).
  queries: str = "released"  # Query positions of visual dropout: released | answers.
  clip: int = 1  # Frames that are encoded jointly.

  @property
  def frames_per_unit(self) -> int:
    """The number of frames of a video is a multiple of this.

    They are whole groups and whole clips. Otherwise a clip would hold frames of two samples, which
    would see each other.
    """
    return math.lcm(self.frames_per_group, self.clip)

  @property
  def tokens_per_group(self) -> int:
    return self.group_grid[0] * self.group_grid[1]

  @property
  def tokens_per_image(self) -> int:
    return self.image_grid[0] * self.image_grid[1]

  def first_image(self, row: RowShape) -> int:
    """The index of the first image token in the visual table."""
    groups = row.frames // self.frames_per_group
    return groups * self.tokens_per_group

  def newline_index(self, row: RowShape) -> int:
    """The index of the newline: the last row of the table."""
    return self.first_image(row) + row.images * self.tokens_per_image
