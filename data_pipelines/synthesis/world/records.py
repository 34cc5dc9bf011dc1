# SPDX-License-Identifier: Apache-2.0
"""Manifest records of a world: clips with captions, joined training videos, held-out questions."""

from collections import defaultdict
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
from numpy.random import Generator

from data_pipelines.sample import IMAGE
from data_pipelines.synthesis.corpus_files import Record
from data_pipelines.synthesis.shapes import INTERVALS
from data_pipelines.synthesis.world.questions import (
  PlacedQuestion,
  WorldQuestion,
  balanced,
  chance_of,
  world_questions,
)
from data_pipelines.synthesis.world.recipe import WorldRecipe
from data_pipelines.synthesis.world.scenes import WorldScene, draw_scene_count, shapes_of_video

DESCRIBE = "Describe the video."
BLANK = 40  # One of this many joined videos is grey, with the usual answers.
BLANK_VIDEO = "videos/blank.mp4"
_CLIPS_OF_A_SCENE = 4
_TRIES = 200  # Draws of a scene before a joined video stays shorter.

FileScene = tuple[str, WorldScene]  # A file and a scene of it.


def conversation(rows: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
  """LLaVA turns of (question, answer); the first one shows the video."""
  turns = []
  for number, (question, answer) in enumerate(rows):
    text = f"{IMAGE}\n{question}" if number == 0 else question
    turns.append({"from": "human", "value": text})
    turns.append({"from": "gpt", "value": answer})
  return turns


def clip_records(
  rng: Generator,
  file: str,
  scenes: Sequence[WorldScene],
  recipe: WorldRecipe,
  frames: int = 4,
) -> list[Record]:
  """Captioned clips of `frames` neighbouring frames inside one scene."""
  records = []
  length = frames / recipe.fps
  for scene in scenes:
    room = scene.stop - scene.start - length
    if room < 0:
      continue
    for _ in range(_CLIPS_OF_A_SCENE):
      first = int(rng.integers(0, int(room * recipe.fps) + 1)) / recipe.fps
      start = scene.start + first
      record = dict(
        id=f"{file}@{start:g}",
        video=file,
        start=start,
        end=start + length,
        conversations=conversation([("", scene.caption)]),
      )
      records.append(record)
  return records


@dataclasses.dataclass(frozen=True)
class JoinedKind:
  """A kind of joined videos."""

  seconds: tuple[float, float]
  scenes: tuple[int, int]
  described: float  # Share of records that are a caption.


def joined_record(
  rng: Generator,
  name: str,
  pool: Sequence[FileScene],
  recipe: WorldRecipe,
  kind: JoinedKind,
) -> Record:
  """A training record: joined scenes of many files, with questions."""
  chosen = _choose_scenes(rng, pool, recipe, kind)
  placed = _place_scenes(rng, chosen, recipe, kind)
  timeline = []
  for (file, source), scene in zip(chosen, placed, strict=True):
    stop = source.start + scene.stop - scene.start
    timeline.append(dict(media=file, t0=source.start, t1=stop))
  rows = _training_rows(rng, placed, recipe, kind)
  return dict(id=name, scenes=timeline, conversations=conversation(rows))


def _choose_scenes(
  rng: Generator,
  pool: Sequence[FileScene],
  recipe: WorldRecipe,
  kind: JoinedKind,
) -> list[FileScene]:
  """Scenes with different backgrounds, short and long ones in a drawn order."""
  count = draw_scene_count(rng, kind.scenes)
  short = min(draw_scene_count(rng, recipe.train_short), count - 1)
  shapes = shapes_of_video(rng, recipe)
  wanted = rng.permutation([True] * short + [False] * (count - short))
  chosen: dict[str, FileScene] = {}
  for is_short in wanted:
    for _ in range(_TRIES):
      file, scene = pool[int(rng.integers(len(pool)))]
      fits = scene.short == is_short and scene.shape in shapes
      if fits and scene.background not in chosen:
        chosen[scene.background] = (file, scene)
        break
  return list(chosen.values())


def _place_scenes(
  rng: Generator,
  chosen: Sequence[FileScene],
  recipe: WorldRecipe,
  kind: JoinedKind,
) -> list[WorldScene]:
  """Scenes one after the other, cut for a training video."""
  total = rng.uniform(*kind.seconds)
  long = sum(not scene.short for _, scene in chosen)
  smallest = min(INTERVALS / recipe.slots, 1 / max(1, long))
  share = smallest + rng.dirichlet([2.0] * max(1, long)) * (1 - long * smallest)
  lengths = iter(share * total)
  start = 0.0
  placed = []
  for _, scene in chosen:
    length = scene.stop - scene.start
    if not scene.short:
      length = min(length, float(next(lengths)))
    length = max(1, round(length * recipe.fps)) / recipe.fps
    placed.append(dataclasses.replace(scene, start=start, stop=start + length))
    start += length
  return placed


def _training_rows(
  rng: Generator,
  scenes: Sequence[WorldScene],
  recipe: WorldRecipe,
  kind: JoinedKind,
) -> list[tuple[str, str]]:
  """A caption, or questions whose tasks and answers are equally frequent."""
  if rng.uniform() < kind.described:
    return [(DESCRIBE, ", ".join(scene.caption for scene in scenes))]
  by_task: dict[str, dict[str, list[WorldQuestion]]] = defaultdict(lambda: defaultdict(list))
  for question in world_questions(scenes, recipe):
    by_task[question.task][question.answer].append(question)
  rows: dict[str, str] = {}
  for _ in range(recipe.turns):
    answers = by_task[str(rng.choice(sorted(by_task)))]
    questions = answers[str(rng.choice(sorted(answers)))]
    question = questions[int(rng.integers(len(questions)))]
    rows[question.question] = question.answer
  return list(rows.items())


def blank_record(record: Record) -> Record:
  """The record with grey scenes of the same lengths."""
  scenes = []
  for scene in record["scenes"]:
    scenes.append(dict(media=BLANK_VIDEO, t0=0.0, t1=scene["t1"] - scene["t0"]))
  return record | dict(scenes=scenes)


def held_out_records(
  rng: Generator,
  files: Sequence[str],
  videos: Sequence[Sequence[WorldScene]],
  recipe: WorldRecipe,
) -> tuple[list[Record], dict[str, Any]]:
  """Records of one question each, and their chances by kind.

  Questions are in the order of the videos, so that a video is read once.
  """
  by_kind: dict[str, list[PlacedQuestion]] = defaultdict(list)
  for number, scenes in enumerate(videos):
    for question in world_questions(scenes, recipe):
      by_kind[question.kind].append(PlacedQuestion(number, question))
  kept: list[PlacedQuestion] = []
  kinds = {}
  for kind, questions in sorted(by_kind.items()):
    chosen = balanced(rng, questions, recipe.questions)
    kinds[kind] = dict(questions=len(chosen), chance=chance_of(chosen))
    kept += chosen
  kept.sort(key=_video_of)
  records = []
  counts = np.zeros(len(videos), int)
  for video, question in kept:
    record = dict(
      id=f"{files[video]}#{counts[video]}",
      video=files[video],
      kind=question.kind,
      conversations=conversation([(question.question, question.answer)]),
    )
    counts[video] += 1
    records.append(record)
  return records, kinds


def _video_of(question: PlacedQuestion) -> int:
  return question.video
