# SPDX-License-Identifier: Apache-2.0
"""Views, pixels and token patterns of pictures, against LLaVA's rules written out here."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from data_pipelines.packing import tiles as images
from data_pipelines.packing import visual_order
from filax.spec import VisualLayout

SIDES = st.integers(1, 900)
LAYOUT = dict(size=24, frames_per_group=3, group_grid=(2, 3), image_grid=(4, 4))


def reference_canvas(size, options):
  """select_best_resolution: (width, height) of the canvas."""
  best, most, least = None, 0, float("inf")
  for width, height in options:
    scale = min(width / size[0], height / size[1])
    kept = min(int(size[0] * scale) * int(size[1] * scale), size[0] * size[1])
    waste = width * height - kept
    if kept > most or (kept == most and waste < least):
      best, most, least = (width, height), kept, waste
  return best


def reference_unpad(grid, size):
  """unpad_image on [H W]; size = (width, height)."""
  high, wide = grid.shape
  if size[0] / size[1] > wide / high:
    cut = (high - int(round(size[1] * (wide / size[0]), 7))) // 2
    return grid[cut : high - cut]
  cut = (wide - int(round(size[0] * (high / size[1]), 7))) // 2
  return grid[:, cut : wide - cut]


@given(width=SIDES, height=SIDES, tiles=st.integers(1, 9))
def test_canvas_and_pattern_follow_llava(width, height, tiles):
  views = images.views(width, height, dict(mode="anyres", tiles=tiles), 24, alone=True)
  options = [
    (c * 24, r * 24) for c in range(1, tiles + 1) for r in range(1, tiles + 1) if r * c <= tiles
  ]
  assert (views.columns * 24, views.rows * 24) == reference_canvas((width, height), options)
  assert views.count == 1 + views.rows * views.columns <= 1 + tiles
  pattern = visual_order.image(views, VisualLayout(**LAYOUT))
  tokens = np.arange(views.count * 16).reshape(views.count, 4, 4)
  rows = [
    np.concatenate([tokens[1 + r * views.columns + c, y] for c in range(views.columns)])
    for r in range(views.rows)
    for y in range(4)
  ]
  mosaic = reference_unpad(np.stack(rows), (width, height))
  expected = [*range(16)] + [i for row in mosaic for i in (*row, visual_order.NEWLINE)]
  np.testing.assert_array_equal(pattern, expected)
  plain = visual_order.image(views, VisualLayout(**LAYOUT, newline="none"))
  np.testing.assert_array_equal(plain, [i for i in expected if i != visual_order.NEWLINE])


def test_modes_of_one_view():
  def of(mode, alone=True):
    return images.views(40, 20, dict(mode=mode, tiles=4), 24, alone)

  assert of("squash").count == of("pad").count == of("anyres", alone=False).count == 1
  assert of("anyres", alone=False).mode == "pad" and of("anyres").count == 3
  layout = VisualLayout(**LAYOUT)
  np.testing.assert_array_equal(
    visual_order.image(of("pad"), layout), [*range(16), visual_order.NEWLINE]
  )
  flat = VisualLayout(**LAYOUT, newline="none")  # Stage 1.
  np.testing.assert_array_equal(visual_order.image(of("squash"), flat), range(16))


def test_pixels_of_one_view_equal_pillow():
  picture = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)

  def views(mode):
    return images.views(50, 30, dict(mode=mode, tiles=1), 24, True)

  squashed = np.asarray(Image.fromarray(picture).resize((24, 24), Image.Resampling.BICUBIC))
  np.testing.assert_array_equal(images.pixels(picture, views("squash"), 24), squashed[None])
  square = np.full((50, 50, 3), 127, np.uint8)  # LLaVA's expand2square with SigLIP's mean.
  square[10:40] = picture
  padded = np.asarray(Image.fromarray(square).resize((24, 24), Image.Resampling.BICUBIC))
  np.testing.assert_array_equal(images.pixels(picture, views("pad"), 24), padded[None])


@given(width=st.integers(5, 200), height=st.integers(5, 200))
def test_tiles_cover_the_picture_row_by_row(width, height):
  picture = np.full((height, width, 3), 255, np.uint8)
  views = images.views(width, height, dict(mode="anyres", tiles=6), 24, alone=True)
  tiles = images.pixels(picture, views, 24)
  assert tiles.shape == (views.count, 24, 24, 3) and (tiles[0] == 255).all()
  rows = [
    np.concatenate(tiles[1 + r * views.columns :][: views.columns], axis=1)
    for r in range(views.rows)
  ]
  canvas = np.concatenate(rows)[..., 0]
  scale = min(views.columns * 24 / width, views.rows * 24 / height)
  lit = canvas == 255
  assert lit.any(0).sum() == min(int(np.ceil(width * scale)), views.columns * 24)
  assert lit.any(1).sum() == min(int(np.ceil(height * scale)), views.rows * 24)
  assert set(np.unique(canvas)) <= {0, 255}  # Black borders, as LLaVA has them.


def test_a_picture_of_another_size_than_planned_still_fits():
  views = images.views(100, 20, dict(mode="anyres", tiles=6), 24, alone=True)
  picture = np.zeros((60, 30, 3), np.uint8)
  assert images.pixels(picture, views, 24).shape == (views.count, 24, 24, 3)


@pytest.mark.parametrize(
  ("newline", "expected"),
  [
    ("none", "0 1 2 3 4 5 6 7 8 9 10 11"),
    ("one_token", "0 1 2 3 4 5 6 7 8 9 10 11 n"),
    ("frame", "0 1 2 3 4 5 n 6 7 8 9 10 11 n"),
    ("grid", "0 1 2 n 3 4 5 n 6 7 8 n 9 10 11 n"),
  ],
)
def test_video_newlines(newline, expected):
  pattern = visual_order.video_order(2, VisualLayout(**LAYOUT, newline=newline))
  assert " ".join("n" if i < 0 else str(i) for i in pattern) == expected
  placed = visual_order.placed(pattern, 30, 99)
  assert placed.dtype == np.int32
  np.testing.assert_array_equal(placed, [99 if i < 0 else i + 30 for i in pattern])


def test_published_lengths():
  video = VisualLayout(384, 1, (14, 14), (27, 27))
  lengths = {
    mode: len(visual_order.video_order(32, VisualLayout(384, 1, (14, 14), (27, 27), mode)))
    for mode in ("one_token", "grid", "frame", "none")
  }
  assert lengths == dict(one_token=6273, grid=6720, frame=32 * 197, none=6272)
  padded = images.views(640, 480, dict(mode="pad", tiles=1), 384, True)
  assert len(visual_order.image(padded, video)) == 730


def test_errors_name_the_knob():
  with pytest.raises(ValueError, match=r"config\.data\.images\.mode='crop'.*anyres"):
    images.views(4, 4, dict(mode="crop", tiles=1), 24, True)
  with pytest.raises(ValueError, match=r"config\.data\.images\.tiles=0"):
    images.views(4, 4, dict(mode="anyres", tiles=0), 24, True)
