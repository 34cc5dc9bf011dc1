# SPDX-License-Identifier: Apache-2.0
"""Questions about the scenes of a world, by task, and their balance.

A scene is named by its background: "What shape is on red?". A space precedes every word that
matters, in questions, answers and captions, so that all give the same pieces of a tokenizer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
import functools
import itertools
from typing import NamedTuple

from numpy.random import Generator

from data_pipelines.synthesis.shapes import SHAPES
from data_pipelines.synthesis.world.recipe import WorldRecipe
from data_pipelines.synthesis.world.scenes import NUMBERS, WorldScene

MOST_COUNTED = 3  # Larger counts are not asked.
_EVEN_CHOICES = 12  # Kinds with more answers are not balanced exactly.


class WorldQuestion(NamedTuple):
  """A question.

  `kind` is the task, the length of the scene where it matters, and that of the video if asked for.
  """

  kind: str
  question: str
  answer: str

  @property
  def task(self) -> str:
    """The task without the length."""
    return self.kind.partition("/")[0]


Scenes = Sequence[WorldScene]


def world_questions(scenes: Scenes, recipe: WorldRecipe) -> list[WorldQuestion]:
  """All questions of the recipe's tasks about a video."""
  group = length_group(scenes, recipe)
  questions = []
  for task in recipe.tasks:
    for question in _TASKS[task](scenes, recipe):
      questions.append(question._replace(kind=f"{question.kind}{group}"))
  return questions


def length_group(scenes: Scenes, recipe: WorldRecipe) -> str:
  """The end of kinds by the length of a video.

  "/Short", "/Medium" or "/Long"; "" without recipe.length_bounds.
  """
  low, high = recipe.length_bounds
  if not high:
    return ""
  seconds = scenes[-1].stop
  if seconds < low:
    return "/Short"
  return "/Medium" if seconds < high else "/Long"


class SceneWords(NamedTuple):
  """A question about one scene and its answer.

  {} holds a field of WorldScene.
  """

  question: str
  answer: str
  needs_motion: bool = False  # Asked of moving scenes alone.


_ABOUT_A_SCENE = dict(
  shape=SceneWords("What shape is on {background}?", "a {shape}"),
  colour=SceneWords("What colour is on {background}?", "it is {colour}"),
  scene=SceneWords("Describe the scene on {background}.", "a {colour} {shape}"),
  digit=SceneWords("Which digit is on {background}?", "it is {digit}"),
  motion=SceneWords("Which way does it move on {background}?", "it moves {motion}", True),
  speed=SceneWords("How does it move on {background}?", "it is {speed}", True),
)


def _about_a_scene(task: str, scenes: Scenes, _: WorldRecipe) -> Iterator[WorldQuestion]:
  """Questions of a task of _ABOUT_A_SCENE."""
  words = _ABOUT_A_SCENE[task]
  for scene in scenes:
    if scene.motion or not words.needs_motion:
      fields = scene.as_dict()
      question = words.question.format_map(fields)
      answer = words.answer.format_map(fields)
      yield WorldQuestion(f"{task}/{scene.length}", question, answer)


def _order(scenes: Scenes, _: WorldRecipe) -> Iterator[WorldQuestion]:
  for before, after in itertools.combinations(scenes, 2):
    for first, second in ((before, after), (after, before)):
      question = f"What comes first, {first.background} or {second.background}?"
      yield WorldQuestion("order", question, f"it is {before.background}")


def _next(scenes: Scenes, _: WorldRecipe) -> Iterator[WorldQuestion]:
  for before, after in itertools.pairwise(scenes):
    question = f"What comes after {before.background}?"
    yield WorldQuestion(f"next/{after.length}", question, f"it is {after.background}")


def _count(scenes: Scenes, _: WorldRecipe) -> Iterator[WorldQuestion]:
  for shape in SHAPES:
    count = sum(scene.shape == shape for scene in scenes)
    if count <= MOST_COUNTED:
      question = f"How many scenes have a {shape}?"
      yield WorldQuestion("count", question, f"there are {NUMBERS[count]}")


def _when(scenes: Scenes, recipe: WorldRecipe) -> Iterator[WorldQuestion]:
  for scene in scenes[1:]:  # The first one always begins at 0.
    seconds = recipe.time_step * round(scene.start / recipe.time_step)
    question = f"When does {scene.background} begin?"
    yield WorldQuestion(f"when/{scene.length}", question, f"at {seconds} seconds")


_TASKS: dict[str, Callable[[Scenes, WorldRecipe], Iterator[WorldQuestion]]] = {
  **{task: functools.partial(_about_a_scene, task) for task in _ABOUT_A_SCENE},
  "order": _order,
  "next": _next,
  "count": _count,
  "when": _when,
}


class PlacedQuestion(NamedTuple):
  """A question about the video of a number."""

  video: int
  asked: WorldQuestion


def balanced(
  rng: Generator,
  questions: Sequence[PlacedQuestion],
  limit: int = 0,
) -> list[PlacedQuestion]:
  """Questions of one kind with equally frequent answers.

  limit: the most questions of the kind; 0 = no limit.

  Every answer is kept as often as the rarest one. There are two exceptions:

  - Task "when", whose answers are seconds: only the m most frequent answers are kept, with the m
    that keeps the most questions. Example: of answers with 9, 8 and 2 questions, m = 2 keeps 16
    questions (m = 1 keeps 9, m = 3 keeps 6).
  - A kind with many different answers, such as colour and shape at once: it is only shortened,
    because its answers are drawn uniformly.
  """
  order = [int(place) for place in rng.permutation(len(questions))]
  by_answer = defaultdict(list)
  for place in order:
    by_answer[questions[place].asked.answer].append(place)
  counts = sorted(map(len, by_answer.values()), reverse=True)
  if len(counts) > _EVEN_CHOICES and questions[0].asked.task != "when":
    return [questions[place] for place in sorted(order[: limit or None])]
  kept = len(counts)
  if questions[0].asked.task == "when":
    kept = max(range(1, len(counts) + 1), key=lambda size: size * counts[size - 1])
  of_each = counts[kept - 1]
  if limit:
    of_each = max(1, min(of_each, limit // kept))
  chosen = []
  for places in by_answer.values():
    if len(places) >= counts[kept - 1]:
      chosen += places[:of_each]
  return [questions[place] for place in sorted(chosen)]


def chance_of(questions: Sequence[PlacedQuestion]) -> float:
  """The best score without a video.

  The scene that a question names cannot be the answer to what comes after it, and one of the two
  scenes of a question about order is the answer.
  """
  asked = questions[0].asked
  if asked.task == "order":
    return 1 / 2
  answers = {question.asked.answer for question in questions}
  return 1 / max(1, len(answers) - (asked.task == "next"))
