# SPDX-License-Identifier: Apache-2.0
"""The truth of a world: what every scene of a video shows, and when."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
from numpy.random import Generator

from data_pipelines.synthesis.shapes import COLOURS, INTERVALS, SHAPES
from data_pipelines.synthesis.world.recipe import WorldRecipe

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIRECTIONS = ("left", "right", "up", "down")
SPEEDS = ("fast", "slow")
_SHAPES_OF_A_VIDEO = 3  # If scenes are counted: so few that shapes repeat.
_EVENNESS = 2.0  # Parameter of the Dirichlet draw of scene lengths: similar, but not equal.


@dataclasses.dataclass(frozen=True)
class WorldScene:
  """A scene between two seconds of a video.

  `motion` and `speed` are "" for a shape that stays in place, `digit` is "" without one.
  """

  background: str
  shape: str
  colour: str
  start: float
  stop: float
  short: bool = False
  digit: str = ""
  motion: str = ""
  speed: str = ""

  @property
  def length(self) -> str:
    """The word for its length in kinds of questions."""
    return "short" if self.short else "long"

  @property
  def caption(self) -> str:
    """What it shows, in words."""
    text = f"on {self.background} a {self.colour} {self.shape}"
    if self.motion:
      text += f" moving {self.motion} {self.speed}"
    if self.digit:
      text += f" with {self.digit}"
    return text

  def as_dict(self) -> dict[str, Any]:
    """The scene for JSON."""
    return dataclasses.asdict(self)


def draw_scenes(rng: Generator, recipe: WorldRecipe, held_out: bool = False) -> list[WorldScene]:
  """Draws the scenes of a file, in order.

  Shapes, colours, digits and directions are uniform, so guessing scores at chance.
  """
  count = draw_scene_count(rng, recipe.scenes)
  short = draw_scene_count(rng, recipe.short if held_out else recipe.train_short)
  is_short = rng.permutation([True] * short + [False] * (count - short))
  seconds = rng.uniform(*(recipe.held_seconds if held_out else recipe.seconds))
  frames = _draw_frames(rng, recipe, is_short, int(seconds * recipe.fps))
  stops = np.cumsum(frames) / recipe.fps
  starts = stops - frames / recipe.fps
  backgrounds = rng.permutation(list(COLOURS))
  shapes = shapes_of_video(rng, recipe)
  scenes = []
  for place in range(count):
    background = str(backgrounds[place])
    moves = recipe.moves and rng.uniform() < recipe.moving
    scene = WorldScene(
      background=background,
      shape=str(rng.choice(shapes)),
      colour=str(rng.choice([colour for colour in COLOURS if colour != background])),
      start=float(starts[place]),
      stop=float(stops[place]),
      short=bool(is_short[place]),
      digit=str(rng.choice(NUMBERS)) if "digit" in recipe.tasks else "",
      motion=str(rng.choice(DIRECTIONS)) if moves else "",
      speed=str(rng.choice(SPEEDS)) if moves else "",
    )
    scenes.append(scene)
  return scenes


def shapes_of_video(rng: Generator, recipe: WorldRecipe) -> Sequence[str]:
  """The shapes that a video may show."""
  if "count" not in recipe.tasks:
    return SHAPES
  return [str(shape) for shape in rng.permutation(SHAPES)[:_SHAPES_OF_A_VIDEO]]


def draw_scene_count(rng: Generator, limits: tuple[int, int]) -> int:
  """A whole number between limits, both included."""
  fewest, largest = limits
  return int(rng.integers(fewest, largest + 1))


def _draw_frames(
  rng: Generator,
  recipe: WorldRecipe,
  is_short: np.ndarray,
  total: int,
) -> np.ndarray:
  """Frames of each scene, i64 [scenes], about `total` in all.

  Long scenes share what short ones leave, each at least as much as fills 3 slots of training, if
  the video is long enough for it.
  """
  drawn = rng.uniform(*recipe.short_seconds, len(is_short))
  short_frames = np.maximum(2, np.rint(drawn * recipe.fps)).astype(int)
  frames = np.where(is_short, short_frames, 0)
  long = int(np.count_nonzero(~is_short))
  rest = total - int(frames.sum())
  smallest = min(int(np.ceil(INTERVALS * total / recipe.slots)), rest // long)
  share = rng.dirichlet([_EVENNESS] * long)
  frames[~is_short] = smallest + (share * (rest - long * smallest)).astype(int)
  return frames
