# SPDX-License-Identifier: Apache-2.0
"""Packed rows of videos, pictures and words for any tiny model, drawn with one seed per sample."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from data_pipelines.packing import visual_order
from filax.models.components import build_video_lm
from filax.spec import RowShape, VisualLayout, dropout_stages
from filax.testing.random_parameters import random_parameters

FILA = dict(
  encoder=dict(name="siglip", variant="tiny"),
  selector=dict(name="uniform", size=3),
  merger=dict(name="weighted"),
  projector=dict(name="mlp", newline="one_token", pool_side=2),
  llm=dict(name="qwen2", variant="tiny"),
)
FLASH = dict(
  encoder=dict(name="umt", variant="tiny"),
  selector=dict(name="clips", size=4),
  merger=dict(name="tome", tokens=2),
  projector=dict(name="mlp", newline="none", pool_side=1),
  llm=dict(name="qwen2", variant="tiny", dropout=((1, "uniform", 0.75), (2, "attention", 0.25))),
)
GROUPS = 8  # Groups of a row, which divide over 8 devices.
IMAGES = 2
QUERIES = 16
WORDS_ROOM = 40  # Positions of a row beside those of its visual tokens.


@dataclasses.dataclass(frozen=True)
class PackedSample:
  """`groups` of frames, then pictures, then words; every second word is learnt."""

  seed: int
  groups: int
  images: int
  words: int


@dataclasses.dataclass
class RowCursor:
  """The next free places of a row."""

  token: int = 0
  group: int = 0
  image: int = 0
  query: int = 0


def sample_rows(count: int) -> list[list[PackedSample]]:
  """Rows of three samples whose lengths differ by row.

  The samples: a long video, a picture with a short video, and text alone.
  """
  rows = []
  for r in range(count):
    video = PackedSample(3 * r, 5 - r % 2, 0, 7 + r % 3)
    both = PackedSample(3 * r + 1, 2, 1, 5)
    words = PackedSample(3 * r + 2, 0, 0, 9)
    rows.append([video, both, words])
  return rows


def tiny_model(config: Mapping[str, Any], **changes: Any) -> tuple[Any, Any]:
  """(model, drawn parameters) of a config.model with some keys changed."""
  model = build_video_lm({**config, **changes})
  return model, random_parameters(model)


def row_shape(layout: VisualLayout) -> RowShape:
  """A row with room for GROUPS groups, IMAGES images and words."""
  visual = GROUPS * layout.tokens_per_group + IMAGES * layout.tokens_per_image
  unit = 512 if layout.stages else 64  # Shortened rows of a 512 still split over 8 devices.
  length = unit * math.ceil((visual + WORDS_ROOM) / unit)
  shape = RowShape(GROUPS * layout.frames_per_group, IMAGES, length, 3)
  if not layout.stages:
    return shape
  room = dropout_stages.room(shape, layout)
  return dataclasses.replace(shape, room=room, stages=len(layout.stages), queries=QUERIES)


def packed_batch(
  layout: VisualLayout, rows: Sequence[Sequence[PackedSample]]
) -> dict[str, np.ndarray]:
  """The arrays of a batch, [R ...]."""
  arrays = [packed_row(layout, samples) for samples in rows]
  return {key: np.stack([row[key] for row in arrays]) for key in arrays[0]}


def packed_row(layout: VisualLayout, samples: Sequence[PackedSample]) -> dict[str, np.ndarray]:
  """The arrays of one row."""
  shape = row_shape(layout)
  row = shape.zeros(layout.size)
  cursor = RowCursor()
  for segment, sample in enumerate(samples, 1):
    _place_sample(row, layout, shape, segment, sample, cursor)
  return row


def _place_sample(
  row: dict[str, np.ndarray],
  layout: VisualLayout,
  shape: RowShape,
  segment: int,
  sample: PackedSample,
  cursor: RowCursor,
) -> None:
  rng = np.random.default_rng(sample.seed)
  visual = _visual_index(layout, shape, sample, cursor)
  size = len(visual) + sample.words
  places = slice(cursor.token, cursor.token + size)
  words = rng.integers(1, 500, size)
  order = np.arange(size)
  learnt = (order >= len(visual) + 2) & (order % 2 > 0)
  visual_places = slice(places.start, places.start + len(visual))
  before_last = slice(places.start, places.stop - 1)
  row["tokens"][places] = words
  row["segment_ids"][places] = segment
  row["positions"][places] = order
  row["visual_index"][visual_places] = visual
  row["targets"][before_last] = words[1:]
  row["loss_mask"][before_last] = learnt[1:]
  first_frame = cursor.group * layout.frames_per_group
  frame_count = sample.groups * layout.frames_per_group
  frames = slice(first_frame, first_frame + frame_count)
  row["frames"][frames] = _random_pixels(rng, frame_count, layout.size)
  row["frame_segment_ids"][frames] = segment
  images = slice(cursor.image, cursor.image + sample.images)
  row["images"][images] = _random_pixels(rng, sample.images, layout.size)
  row["image_segment_ids"][images] = segment
  if layout.stages:
    queries = dropout_stages.query_positions(learnt)
    kept = dropout_stages.kept([len(visual)], layout.stages)
    query_slots = slice(cursor.query, cursor.query + len(queries))
    row["queries"][query_slots] = places.start + queries
    row["keep"][:, segment - 1] = kept[:, 0]
    cursor.query = query_slots.stop
  cursor.token = places.stop
  cursor.group += sample.groups
  cursor.image = images.stop


def _random_pixels(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
  return rng.integers(0, 256, (count, size, size, 3))


def _visual_index(
  layout: VisualLayout, shape: RowShape, sample: PackedSample, cursor: RowCursor
) -> np.ndarray:
  """The visual_index of a sample's media."""
  parts = [np.zeros(0, int)]
  if sample.groups:
    order = visual_order.video_order(sample.groups, layout)
    first = cursor.group * layout.tokens_per_group
    parts.append(visual_order.placed(order, first, layout.newline_index(shape)))
  for n in range(sample.images):
    first = layout.first_image(shape) + (cursor.image + n) * layout.tokens_per_image
    parts.append(np.arange(first, first + layout.tokens_per_image))
  return np.concatenate(parts)
