# SPDX-License-Identifier: Apache-2.0
"""Draws videos of nearly still scenes of shapes.

A scene is a bright shape on a dark background. No two scenes of a video have the same background,
so a background identifies a scene. A shape and its background differ in colour.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np
from numpy.random import Generator

COLOURS = dict(
  red=(215, 45, 45),
  green=(45, 160, 65),
  blue=(45, 75, 215),
  yellow=(235, 215, 50),
  purple=(145, 45, 185),
  orange=(240, 135, 35),
  grey=(200, 200, 200),
  cyan=(40, 200, 215),
)
SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar")
CHOICES = dict(shape=len(SHAPES), colour=len(COLOURS) - 1)  # No shape has its background's colour.
FPS = 2
SIDE = 48  # Pixels.
SLOTS = 24  # Evenly spaced frames that training samples from a video.
# Minimum length of a long scene, in intervals between sampled frames. 3 intervals hold 3 frames at
# any phase, hence 2 of some group of 3; the excess over 3 covers sampling from end to end.
INTERVALS = 3.2
SHORT_SECONDS = (3, 5)  # Minimum and maximum length of a short scene.
_EVENNESS = [2.0]  # Parameter of the Dirichlet draw of scene lengths: similar, but not equal.


@dataclasses.dataclass(frozen=True)
class Shot:
  """A scene of a toy video: frames `first` to `stop` - 1."""

  background: str
  shape: str
  colour: str
  first: int
  stop: int
  short: bool

  @property
  def caption(self) -> str:
    """The caption of the scene, without an article before the background."""
    return f"on {self.background} a {self.colour} {self.shape}"


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Scene counts (minimum, maximum) and duration of a video."""

  short: tuple[int, int] = (0, 1)
  long: tuple[int, int] = (5, 7)
  seconds: tuple[int, int] = (120, 180)


RECIPES = dict(
  train=Recipe(),
  held_out=Recipe(short=(2, 3), long=(3, 4)),
  tiny=Recipe(
    short=(0, 0),
    long=(2, 2),
    seconds=(4, 6),
  ),
)


def draw_shots(rng: Generator, recipe: Recipe) -> list[Shot]:
  """Draws the scenes of a video, in order.

  Answers are uniformly distributed, so guessing scores at chance.
  """
  short = _draw_count(rng, recipe.short)
  long = _draw_count(rng, recipe.long)
  shortest, longest = recipe.seconds
  total = _draw_count(rng, (shortest * FPS, longest * FPS))
  is_short = rng.permutation([True] * short + [False] * long)
  frames = _draw_lengths(rng, is_short, total)
  stops = np.cumsum(frames)
  backgrounds = rng.permutation(list(COLOURS))
  shots = []
  for number in range(short + long):
    background = str(backgrounds[number])
    colours = [colour for colour in COLOURS if colour != background]
    colour = rng.choice(colours)
    shape = rng.choice(SHAPES)
    stop = int(stops[number])
    shot = Shot(
      background=background,
      shape=str(shape),
      colour=str(colour),
      first=stop - int(frames[number]),
      stop=stop,
      short=bool(is_short[number]),
    )
    shots.append(shot)
  return shots


def _draw_count(rng: Generator, limits: tuple[int, int]) -> int:
  fewest, largest = limits
  return int(rng.integers(fewest, largest + 1))


def _draw_lengths(
  rng: Generator,
  is_short: np.ndarray,
  total: int,
) -> np.ndarray:
  """Frames of each scene, i64 [scenes], `total` in all.

  Long scenes share the frames beyond their minimum.
  """
  shortest, longest = SHORT_SECONDS
  drawn = rng.integers(shortest * FPS, longest * FPS + 1, len(is_short))
  frames = np.where(is_short, drawn, 0)
  long = np.count_nonzero(~is_short)
  shortest_long = int(np.ceil(INTERVALS * total / SLOTS))
  spare = total - frames.sum() - long * shortest_long
  share = rng.dirichlet(_EVENNESS * long)
  more = (share * spare).astype(int)
  frames[~is_short] = shortest_long + more
  return frames


def film(
  rng: Generator,
  shots: Sequence[Shot],
  side: int = SIDE,
) -> np.ndarray:
  """Draws the pictures of a video: uint8 [T side side 3]."""
  pictures = [_film_shot(rng, shot, side) for shot in shots]
  return np.concatenate(pictures)


def _film_shot(rng: Generator, shot: Shot, side: int) -> np.ndarray:
  """Frames of one scene: a wobbling shape under drifting light.

  The frames are nearly identical, and the middle frame is close to their mean.
  """
  frames = shot.stop - shot.first
  seconds = np.arange(frames)[:, None] / FPS
  radius = rng.uniform(0.28, 0.36) * side
  speed = rng.uniform(0.5, 2, (1, 2))
  phase = rng.uniform(0, 6, (1, 2))
  wobble = np.sin(seconds * speed + phase)
  middle = rng.uniform(0.4, 0.6, (1, 2))
  centre = side * (middle + 0.04 * wobble)
  texture = rng.normal(0, 5, (side, side, 1))
  background = np.array(COLOURS[shot.background])
  colour = np.array(COLOURS[shot.colour])
  back_tint = rng.normal(0, 4, 3)
  back = 0.4 * background + back_tint + texture
  front_tint = rng.normal(0, 6, 3)
  front = 0.75 * colour + 64 + front_tint
  centre = centre.astype(np.float32)
  inside = shape_mask(shot.shape, centre, radius, side)
  light = np.linspace(-12, 12, frames)[:, None, None, None]
  pictures = np.where(inside[..., None], front, back) + light
  return np.clip(pictures, 0, 255).astype(np.uint8)


def shape_mask(
  shape: str,
  centre: np.ndarray,
  radius: float,
  side: int,
) -> np.ndarray:
  """Masks bool [T side side] of a shape at centres [T 2]."""
  grid = np.arange(side, dtype=np.float32) + 0.5
  x = grid - centre[:, 0, None, None]
  y = grid[:, None] - centre[:, 1, None, None]
  width = np.abs(x)
  height = np.abs(y)
  squares = x * x + y * y
  if shape == "circle":
    return squares < radius**2
  if shape == "ring":
    in_outer = squares < 1.1 * radius**2
    in_inner = squares <= 0.3 * radius**2
    return in_outer & ~in_inner
  if shape == "square":
    return np.maximum(width, height) < 0.85 * radius
  if shape == "cross":
    on_a_bar = np.minimum(width, height) < 0.3 * radius
    in_square = np.maximum(width, height) < radius
    return on_a_bar & in_square
  if shape == "bar":
    return (height < 0.35 * radius) & (width < 1.15 * radius)
  # A triangle, tip up.
  above_base = y < 0.75 * radius
  below_tip = y > -radius
  between_sides = width < (y + radius) * 0.6
  return above_base & below_tip & between_sides
