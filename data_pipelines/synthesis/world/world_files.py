# SPDX-License-Identifier: Apache-2.0
"""The folder of a world.

world.json               the recipe, and the questions and chances of each kind
truth.json               the scenes of every held-out video
clips.json               captioned clips inside scenes, to learn to see
train.json               joined videos with questions, to learn to answer
train_brief.json         the same with few scenes, if recipe.brief
captions.json            joined videos with captions alone, if recipe.captions
held_out.json            questions about the held-out videos
tokenizer.model, videos/

Training and held-out videos are drawn from streams of their own.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import pathlib
import sys
from typing import Any

import numpy as np
from numpy.random import Generator

from data_pipelines.media.open import GREY
from data_pipelines.synthesis import corpus_files
from data_pipelines.synthesis.world import records
from data_pipelines.synthesis.world.pictures import film_scenes
from data_pipelines.synthesis.world.recipe import WorldRecipe
from data_pipelines.synthesis.world.scenes import WorldScene, draw_scenes
from filax import files

WORLD = "world.json"
_STREAMS = dict(train=0, held_out=1, records=2, joined=3, brief=4, captions=5)
_BRIEF_SCENES = (2, 3)
_TOKENIZER_RECORDS = 3000  # Enough, because words repeat.


def write_world(
  folder: str | pathlib.Path,
  recipe: WorldRecipe,
  processes: int | None = None,
) -> dict[str, Any]:
  """Makes or completes a world; returns the content of world.json.

  The same recipe gives the same world. Raises ValueError if the folder holds another one.
  """
  folder = pathlib.Path(folder)
  before = _world_before(folder, recipe)
  if before is not None:
    return before
  (folder / "videos").mkdir(parents=True, exist_ok=True)
  files.remove_leftovers(folder)
  files.remove_leftovers(folder / "videos")
  corpus_files.write_json(folder / WORLD, dict(recipe=recipe.as_dict(), complete=False))
  jobs = [("train", index) for index in range(recipe.videos)]
  jobs += [("held_out", index) for index in range(recipe.held)]
  arguments = [(folder, recipe, split, index) for split, index in jobs]
  _say(f"{len(jobs)} videos of {recipe.seconds[0]:g} to {recipe.seconds[1]:g} s ...")
  videos = corpus_files.in_processes(make_world_video, arguments, processes)
  corpus_files.write_small_video(folder / records.BLANK_VIDEO, _grey_frames(recipe), recipe.fps)
  kinds = _write_manifests(folder, recipe, videos)
  world = dict(recipe=recipe.as_dict(), kinds=kinds, complete=True)
  corpus_files.write_json(folder / WORLD, world)
  return world


def _world_before(folder: pathlib.Path, recipe: WorldRecipe) -> dict[str, Any] | None:
  """The content of world.json if the world is complete.

  Raises ValueError if the folder holds something else.
  """
  path = folder / WORLD
  if not path.exists():
    return None
  try:
    present = json.loads(path.read_bytes())
    other = present["recipe"] != json.loads(json.dumps(recipe.as_dict()))
  except (ValueError, LookupError, TypeError) as error:
    raise ValueError(f"{path} is damaged. Delete the folder, or choose another --out.") from error
  if other:
    raise ValueError(
      f"{folder} holds a world of another recipe. Delete the folder, or choose another --out."
    )
  return present if present["complete"] else None


def world_stream(seed: int, stream: str, index: int = 0) -> Generator:
  """The random generator of a video or of records."""
  return np.random.default_rng([0x3017D, seed, _STREAMS[stream], index])


def video_file(split: str, index: int) -> str:
  """The path of a video in its world."""
  return f"videos/{split}-{index:04d}.mp4"


def make_world_video(
  folder: pathlib.Path,
  recipe: WorldRecipe,
  split: str,
  index: int,
) -> list[WorldScene]:
  """Writes a video unless it exists; returns its scenes."""
  rng = world_stream(recipe.seed, split, index)
  scenes = draw_scenes(rng, recipe, held_out=split == "held_out")
  path = folder / video_file(split, index)
  if not path.exists():
    corpus_files.write_small_video(path, film_scenes(rng, scenes, recipe), recipe.fps)
  return scenes


def _grey_frames(recipe: WorldRecipe) -> Iterator[np.ndarray]:
  """Grey pictures, longer than any joined video."""
  picture = np.full((recipe.side, recipe.side, 3), GREY, np.uint8)
  for _ in range(int(recipe.train_seconds[1] * recipe.fps) + 2):
    yield picture


def _write_manifests(
  folder: pathlib.Path,
  recipe: WorldRecipe,
  videos: Sequence[Sequence[WorldScene]],
) -> dict[str, Any]:
  """Writes all JSON files but world.json; returns the kinds of held-out questions."""
  rng = world_stream(recipe.seed, "records")
  clips = []
  pool = []
  for index, scenes in enumerate(videos[: recipe.videos]):
    file = video_file("train", index)
    clips += records.clip_records(rng, file, scenes, recipe)
    pool += [(file, scene) for scene in scenes]
  corpus_files.write_json(folder / "clips.json", clips)
  train = _write_joined(folder, recipe, pool)
  held = videos[recipe.videos :]
  names = [video_file("held_out", index) for index in range(recipe.held)]
  questions, kinds = records.held_out_records(rng, names, held, recipe)
  corpus_files.write_json(folder / "held_out.json", questions)
  truth = {}
  for name, scenes in zip(names, held, strict=True):
    truth[name] = [scene.as_dict() for scene in scenes]
  corpus_files.write_json(folder / "truth.json", truth)
  step = max(1, len(train) // _TOKENIZER_RECORDS)
  corpus_files.train_tokenizer(folder, [*clips, *train[::step]])
  return kinds


def _write_joined(
  folder: pathlib.Path,
  recipe: WorldRecipe,
  pool: Sequence[records.FileScene],
) -> list[corpus_files.Record]:
  """Writes the manifests of joined videos; returns the records of train.json."""
  scenes = recipe.joined_scenes if any(recipe.joined_scenes) else recipe.scenes
  usual = records.JoinedKind(recipe.train_seconds, scenes, recipe.described)
  brief = records.JoinedKind(recipe.brief_seconds, _BRIEF_SCENES, recipe.described)
  captions = dataclasses.replace(usual, described=1.0)
  train = _joined_records(recipe, pool, usual, "joined", recipe.joined * recipe.videos)
  corpus_files.write_json(folder / "train.json", train)
  if recipe.brief:
    rows = _joined_records(recipe, pool, brief, "brief", recipe.brief * recipe.videos)
    corpus_files.write_json(folder / "train_brief.json", rows)
  if recipe.captions:
    rows = _joined_records(recipe, pool, captions, "captions", recipe.captions)
    corpus_files.write_json(folder / "captions.json", rows)
  return train


def _joined_records(
  recipe: WorldRecipe,
  pool: Sequence[records.FileScene],
  kind: records.JoinedKind,
  stream: str,
  count: int,
) -> list[corpus_files.Record]:
  """Records of joined videos; a few of them are grey.

  A model without visual input then still guesses a valid answer.
  """
  rng = world_stream(recipe.seed, stream)
  joined = []
  for number in range(count):
    record = records.joined_record(rng, f"{stream}-{number:05d}", pool, recipe, kind)
    if number % records.BLANK == 0:
      record = records.blank_record(record)
    joined.append(record)
  return joined


def read_truth(folder: str | pathlib.Path) -> dict[str, list[WorldScene]]:
  """File -> scenes of the held-out videos of a world."""
  text = (pathlib.Path(folder) / "truth.json").read_bytes()
  truth = {}
  for name, scenes in json.loads(text).items():
    truth[name] = [WorldScene(**scene) for scene in scenes]
  return truth


def _say(text: str) -> None:
  print(f"[world] {text}", file=sys.stderr, flush=True)
