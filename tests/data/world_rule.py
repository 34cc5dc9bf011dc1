# SPDX-License-Identifier: Apache-2.0
"""A rule that answers the questions of a world from the truth about its scenes.

It reads the words of a question alone, so it shows that every question has an answer in the truth
and is stated well. It is written apart from data_pipelines/synthesis/world/questions.py.
"""

from collections.abc import Callable, Sequence
import re

from data_pipelines.synthesis.world.scenes import NUMBERS, WorldScene

Scenes = Sequence[WorldScene]


def answer_by_rule(question: str, scenes: Scenes, time_step: int = 10) -> str:
  """The answer to a question about a video with these scenes.

  Raises ValueError for a question of no known form.
  """
  for pattern, answer in _RULES:
    match = re.fullmatch(pattern, question)
    if match is not None:
      return answer(scenes, match, time_step)
  raise ValueError(f"No rule answers {question!r}.")


def _named(scenes: Scenes, match: re.Match) -> WorldScene:
  """The scene whose background the question names."""
  (scene,) = [scene for scene in scenes if scene.background == match[1]]
  return scene


def _shape(scenes: Scenes, match: re.Match, _: int) -> str:
  return f"a {_named(scenes, match).shape}"


def _colour(scenes: Scenes, match: re.Match, _: int) -> str:
  return f"it is {_named(scenes, match).colour}"


def _description(scenes: Scenes, match: re.Match, _: int) -> str:
  scene = _named(scenes, match)
  return f"a {scene.colour} {scene.shape}"


def _digit(scenes: Scenes, match: re.Match, _: int) -> str:
  return f"it is {_named(scenes, match).digit}"


def _way(scenes: Scenes, match: re.Match, _: int) -> str:
  return f"it moves {_named(scenes, match).motion}"


def _speed(scenes: Scenes, match: re.Match, _: int) -> str:
  return f"it is {_named(scenes, match).speed}"


def _first_of_two(scenes: Scenes, match: re.Match, _: int) -> str:
  starts = {scene.background: scene.start for scene in scenes}
  return f"it is {min(match.groups(), key=starts.__getitem__)}"


def _following(scenes: Scenes, match: re.Match, _: int) -> str:
  stop = _named(scenes, match).stop
  later = [scene for scene in scenes if scene.start >= stop - 1e-6]
  return f"it is {min(later, key=_start).background}"


def _number(scenes: Scenes, match: re.Match, _: int) -> str:
  shapes = [scene.shape for scene in scenes]
  return f"there are {NUMBERS[shapes.count(match[1])]}"


def _second(scenes: Scenes, match: re.Match, time_step: int) -> str:
  steps = round(_named(scenes, match).start / time_step)
  return f"at {time_step * steps} seconds"


def _start(scene: WorldScene) -> float:
  return scene.start


_RULES: tuple[tuple[str, Callable[[Scenes, re.Match, int], str]], ...] = (
  (r"What shape is on (\w+)\?", _shape),
  (r"What colour is on (\w+)\?", _colour),
  (r"Describe the scene on (\w+)\.", _description),
  (r"Which digit is on (\w+)\?", _digit),
  (r"Which way does it move on (\w+)\?", _way),
  (r"How does it move on (\w+)\?", _speed),
  (r"What comes first, (\w+) or (\w+)\?", _first_of_two),
  (r"What comes after (\w+)\?", _following),
  (r"How many scenes have a (\w+)\?", _number),
  (r"When does (\w+) begin\?", _second),
)
