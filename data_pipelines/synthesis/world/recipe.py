# SPDX-License-Identifier: Apache-2.0
"""The recipe of a small world: its tasks, its sizes, and the knobs of its difficulty."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from data_pipelines.synthesis.shapes import COLOURS

TASKS = (
  "shape",  # Which shape a scene shows: 1 of 6.
  "colour",  # Which colour the shape has: 1 of 7.
  "scene",  # Colour and shape of a scene, as its caption: 1 of 42.
  "digit",  # A small digit in the corner: 1 of 10. Needs resolution.
  "motion",  # Which way the shape moves: 1 of 4. Needs neighbouring frames.
  "speed",  # Whether it moves fast or slowly: 1 of 2. Needs neighbouring frames.
  "order",  # Which of two scenes comes first: 1 of 2.
  "next",  # Which scene follows another: 1 of 7.
  "count",  # How many scenes show a shape: 1 of 4. Needs all scenes.
  "when",  # At which second a scene begins. Needs the times of frames.
)
MOVING_TASKS = ("motion", "speed")
ONE_SCENE_TASKS = ("shape", "colour", "scene")  # Every scene has such a question.
MOST_SCENES = len(COLOURS)  # A background names its scene.
_PAIRS = (
  *("seconds", "held_seconds", "train_seconds", "brief_seconds", "crossing_seconds"),
  "length_bounds",
  *("scenes", "joined_scenes", "short", "train_short", "short_seconds"),
)


@dataclasses.dataclass(frozen=True)
class WorldRecipe:
  """What a world is made of.

  Pairs are (minimum, maximum).

  Harder: shorter `short_seconds` in longer `seconds`, more `scenes`, a smaller `digit_pixels`, a
  shorter `crossing_seconds`, a finer `time_step`, a smaller `contrast`.
  """

  tasks: tuple[str, ...] = ("shape", "colour")
  videos: int = 300  # Training videos; their scenes are joined anew for every record.
  held: int = 64  # Held-out videos.
  seed: int = 0
  side: int = 48  # Pixels.
  fps: int = 2
  seconds: tuple[float, float] = (120.0, 180.0)  # Length of a file of training.
  held_seconds: tuple[float, float] = (120.0, 180.0)  # Length of a held-out video.
  train_seconds: tuple[float, float] = (90.0, 120.0)  # Length of a joined training video.
  scenes: tuple[int, int] = (4, 7)  # In a video, short ones among them.
  joined_scenes: tuple[int, int] = (0, 0)  # In a joined training video; 0,0: as `scenes`.
  short: tuple[int, int] = (2, 3)  # Short scenes of a held-out video.
  train_short: tuple[int, int] = (0, 0)  # Short scenes of a training video.
  short_seconds: tuple[float, float] = (3.0, 5.0)
  moving: float = 0.5  # Share of scenes whose shape moves, if motion or speed is asked.
  crossing_seconds: tuple[float, float] = (2.5, 8.0)  # Seconds of a fast and of a slow crossing.
  digit_pixels: int = 10  # Height of a digit.
  contrast: float = 1.0  # Between shapes and backgrounds; 0 would hide the shapes.
  time_step: int = 10  # Answers about times are multiples of it.
  length_bounds: tuple[float, float] = (0.0, 0.0)  # Seconds between Short, Medium, Long; 0,0: none.
  slots: int = 24  # Frames of training: a long scene fills 3 of them.
  joined: int = 24  # Training records for every file.
  brief: int = 0  # Records for every file in train_brief.json: joined videos of few scenes.
  brief_seconds: tuple[float, float] = (15.0, 30.0)  # Length of those.
  captions: int = 0  # Records in captions.json: joined videos with a caption.
  turns: int = 6  # Questions of a training record.
  described: float = 0.2  # Share of training records that are a caption instead.
  questions: int = 300  # The most held-out questions of one kind; 0 = all that are balanced.

  def __post_init__(self):
    _check_recipe(self)

  @property
  def moves(self) -> bool:
    """Whether shapes move in some scenes."""
    return any(task in MOVING_TASKS for task in self.tasks)

  def as_dict(self) -> dict[str, Any]:
    """The recipe for JSON."""
    values = dataclasses.asdict(self)
    for name in (*_PAIRS, "tasks"):
      values[name] = list(values[name])
    return values


def read_recipe(values: Mapping[str, Any]) -> WorldRecipe:
  """The recipe of a mapping. Raises ValueError naming an unknown entry."""
  known = {field.name for field in dataclasses.fields(WorldRecipe)}
  if unknown := sorted(set(values) - known):
    raise ValueError(f"A world has no {unknown[0]!r}. It has {', '.join(sorted(known))}.")
  entries: dict[str, Any] = {}
  for name, value in values.items():
    entries[name] = tuple(value) if isinstance(value, list | tuple) else value
  return WorldRecipe(**entries)


def _check_recipe(recipe: WorldRecipe) -> None:
  """Raises ValueError for a value that no world can have."""
  for task in recipe.tasks:
    if task not in TASKS:
      raise ValueError(f"The task {task!r} is unknown. There are {', '.join(TASKS)}.")
  if not recipe.tasks or len(set(recipe.tasks)) < len(recipe.tasks):
    raise ValueError("Name each task once, and at least one.")
  for name in _PAIRS:
    low, high = getattr(recipe, name)
    if not 0 <= low <= high or not math.isfinite(high):
      raise ValueError(
        f"{name}={low:g},{high:g} is not a range. Set it to a minimum and a maximum."
      )
  fewest, largest = recipe.scenes
  if not 2 <= fewest <= largest <= MOST_SCENES:
    raise ValueError(
      f"scenes={fewest},{largest} cannot be used. Set it to 2 to {MOST_SCENES} scenes."
    )
  _check_joined_scenes(recipe)
  for name in ("short", "train_short"):
    if getattr(recipe, name)[1] >= fewest:
      raise ValueError(f"{name} leaves no long scene in a video of {fewest} scenes. Lower it.")
  if recipe.side % 2 or recipe.side < 16:
    raise ValueError(f"side={recipe.side} cannot be used. Set it to an even number from 16 on.")
  if not 5 <= recipe.digit_pixels <= recipe.side // 2:
    raise ValueError(
      f"digit_pixels={recipe.digit_pixels} cannot be drawn. Set it to 5 to {recipe.side // 2}."
    )
  for name in ("videos", "held", "fps", "time_step", "slots", "joined", "turns"):
    if getattr(recipe, name) < 1:
      raise ValueError(f"{name}={getattr(recipe, name)} makes nothing. Set it to 1 or more.")
  for name in ("moving", "described", "contrast"):
    if not 0 <= getattr(recipe, name) <= 1:
      raise ValueError(f"{name}={getattr(recipe, name)} is not a share. Set it to 0 to 1.")
  _check_room(recipe)


def _check_joined_scenes(recipe: WorldRecipe) -> None:
  """Raises ValueError if some joined videos would have no question."""
  fewest, largest = recipe.joined_scenes
  if not largest:
    return
  smallest = 1 if set(recipe.tasks) & set(ONE_SCENE_TASKS) else 2
  if not smallest <= fewest <= largest <= MOST_SCENES:
    raise ValueError(
      f"joined_scenes={fewest},{largest} cannot be used. Set it to {smallest} to {MOST_SCENES} "
      "scenes, or to 0,0 for those of scenes."
    )


def _check_room(recipe: WorldRecipe) -> None:
  """Raises ValueError if scenes do not fit into the shortest video."""
  shortest = min(*recipe.seconds, *recipe.held_seconds)
  needed = recipe.scenes[1] * 2 / recipe.fps
  needed += max(recipe.short[1], recipe.train_short[1]) * max(recipe.short_seconds)
  if shortest <= needed:
    raise ValueError(
      f"Videos of {shortest:g} s do not hold {recipe.scenes[1]} scenes. Raise seconds above "
      f"{needed:g}, or lower scenes."
    )
