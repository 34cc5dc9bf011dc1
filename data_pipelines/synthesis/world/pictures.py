# SPDX-License-Identifier: Apache-2.0
"""Draws the pictures of a world."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator

from data_pipelines.synthesis.shapes import COLOURS, shape_mask
from data_pipelines.synthesis.world.recipe import WorldRecipe
from data_pipelines.synthesis.world.scenes import NUMBERS, WorldScene

_DIGITS = (  # 3 x 5 pixels, row by row.
  "111101101101111",
  "010110010010111",
  "111001111100111",
  "111001111001111",
  "101101111001001",
  "111100111001111",
  "111100111101111",
  "111001001010010",
  "111101111101111",
  "111101111001111",
)
_STEPS = dict(left=(-1, 0), right=(1, 0), up=(0, -1), down=(0, 1))
_MARGIN = 2  # Pixels between a digit and the border.
_WHITE = 245
_AT_ONCE = 512  # Frames drawn at a time, so that memory does not grow with the video.


def film_scenes(
  rng: Generator,
  scenes: Sequence[WorldScene],
  recipe: WorldRecipe,
) -> Iterator[np.ndarray]:
  """The pictures of a video, uint8 [side side 3] each."""
  for scene in scenes:
    yield from _film_scene(rng, scene, recipe)


def _film_scene(rng: Generator, scene: WorldScene, recipe: WorldRecipe) -> Iterator[np.ndarray]:
  """The pictures of a scene: a shape under drifting light.

  A still shape wobbles slightly; a moving one crosses the picture again and again.
  """
  side = recipe.side
  count = round((scene.stop - scene.start) * recipe.fps)
  radius = rng.uniform(0.28, 0.36) * side
  speed = rng.uniform(0.5, 2, (1, 2))
  phase = rng.uniform(0, 6, (1, 2))
  middle = rng.uniform(0.4, 0.6, (1, 2))
  texture = rng.normal(0, 5, (side, side, 1))
  back = 0.4 * np.array(COLOURS[scene.background]) + rng.normal(0, 4, 3) + texture
  bright = 0.75 * np.array(COLOURS[scene.colour]) + 64 + rng.normal(0, 6, 3)
  front = back.mean((0, 1)) + recipe.contrast * (bright - back.mean((0, 1)))
  first_place = rng.uniform()
  light = np.linspace(-12, 12, count)
  digit = digit_mask(scene.digit, recipe)
  for first in range(0, count, _AT_ONCE):
    seconds = np.arange(first, min(first + _AT_ONCE, count))[:, None] / recipe.fps
    if scene.motion:
      centre = _moving_centre(scene, recipe, middle, radius, first_place, seconds)
    else:
      centre = side * (middle + 0.04 * np.sin(seconds * speed + phase))
    inside = shape_mask(scene.shape, centre.astype(np.float32), radius, side)
    pictures = np.where(inside[..., None], front, back)
    pictures[:, digit] = _WHITE
    lit = pictures + light[first : first + len(pictures), None, None, None]
    yield from np.clip(lit, 0, 255).astype(np.uint8)


def _moving_centre(
  scene: WorldScene,
  recipe: WorldRecipe,
  middle: np.ndarray,
  radius: float,
  first_place: float,
  seconds: np.ndarray,
) -> np.ndarray:
  """Centres [T 2] of a shape that crosses the picture.

  It comes back on the other side.
  """
  fast, slow = recipe.crossing_seconds
  crossing = fast if scene.speed == "fast" else slow
  progress = (first_place + seconds / crossing) % 1  # [T 1]
  reach = recipe.side + 2 * radius
  step = np.array([_STEPS[scene.motion]])
  forward = progress * reach - radius
  backward = recipe.side - forward
  along = np.where(step < 0, backward, forward)
  return np.where(step == 0, recipe.side * middle, along)


def digit_mask(digit: str, recipe: WorldRecipe) -> np.ndarray:
  """Mask bool [side side] of a digit in the corner.

  It is empty without a digit.
  """
  mask = np.zeros((recipe.side, recipe.side), bool)
  if not digit:
    return mask
  rows = np.array(list(_DIGITS[NUMBERS.index(digit)])) == "1"
  height = recipe.digit_pixels
  width = max(3, round(height * 3 / 5))
  down = np.arange(height) * 5 // height
  across = np.arange(width) * 3 // width
  glyph = rows.reshape(5, 3)[down][:, across]
  mask[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width] = glyph
  return mask
