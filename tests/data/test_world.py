# SPDX-License-Identifier: Apache-2.0
"""A world's questions are fair, have their answers in the truth, and lie in real H.264 files."""

import collections
import dataclasses
import itertools
import json

import av
import numpy as np
import pytest

from data_pipelines.media.frames import read_frames
from data_pipelines.sample import IMAGE
from data_pipelines.synthesis.world import records, world_files
from data_pipelines.synthesis.world.pictures import digit_mask, film_scenes
from data_pipelines.synthesis.world.questions import world_questions
from data_pipelines.synthesis.world.recipe import TASKS, WorldRecipe, read_recipe
from data_pipelines.synthesis.world.scenes import NUMBERS, WorldScene, draw_scenes
from filax.cli.main import main
from tests.data.world_rule import answer_by_rule

RECIPE = WorldRecipe(tasks=TASKS, questions=0)
SMALL = dict(
  tasks=TASKS,
  videos=3,
  held=3,
  seconds=(8, 10),
  held_seconds=(8, 10),
  train_seconds=(8, 10),
  scenes=(3, 3),
  short=(0, 1),
  short_seconds=(1, 2),
  joined=4,
  brief=2,
  captions=5,
)


def videos(recipe, split, count):
  streams = [world_files.world_stream(recipe.seed, split, index) for index in range(count)]
  return [draw_scenes(rng, recipe, held_out=split == "held_out") for rng in streams]


@pytest.fixture(scope="module")
def held():
  """Questions about 200 held-out videos: (records, kinds, scenes of each video)."""
  scenes = videos(RECIPE, "held_out", 200)
  names = [str(index) for index in range(len(scenes))]
  rng = world_files.world_stream(0, "records")
  rows, kinds = records.held_out_records(rng, names, scenes, RECIPE)
  return rows, kinds, dict(zip(names, scenes, strict=True))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
  folder = tmp_path_factory.mktemp("world")
  world_files.write_world(folder, read_recipe(SMALL), processes=1)
  return folder


def turns_of(record):
  texts = [turn["value"].removeprefix(IMAGE).strip() for turn in record["conversations"]]
  return list(zip(texts[::2], texts[1::2], strict=True))


def tasks_of(rows):
  by_task = collections.defaultdict(list)
  for record in rows:
    by_task[record["kind"].partition("/")[0]].append(record)
  return by_task


def test_a_rule_that_reads_the_truth_solves_every_task(held):
  rows, _, truth = held
  assert set(tasks_of(rows)) == set(TASKS)
  for record in rows:
    ((question, answer),) = turns_of(record)
    assert answer_by_rule(question, truth[record["video"]]) == answer


def test_answers_of_a_kind_are_equally_frequent(held):
  rows, kinds, _ = held
  for kind in kinds:
    answers = collections.Counter(turns_of(row)[0][1] for row in rows if row["kind"] == kind)
    if not kind.startswith("scene"):  # 42 answers, only drawn evenly.
      assert len(set(answers.values())) == 1, (kind, answers)


@pytest.fixture(scope="module")
def seen():
  """Words of a question -> how often training answers them how."""
  counts = collections.defaultdict(collections.Counter)
  for scenes in videos(RECIPE, "train", 300):
    for question in world_questions(scenes, RECIPE):
      counts[question.question][question.answer] += 1
  return counts


@pytest.mark.parametrize("task", TASKS)
def test_a_blind_guesser_stays_at_chance(held, seen, task):
  """It gives the most frequent answer to the same words in training."""
  rows, kinds, _ = held
  scores = []
  chances = []
  for record in tasks_of(rows)[task]:
    ((question, answer),) = turns_of(record)
    best = seen[question].most_common(1)
    scores.append(bool(best) and best[0][0] == answer)
    chances.append(kinds[record["kind"]]["chance"])
  chance = np.mean(chances)
  spread = np.sqrt(chance * (1 - chance) / len(scores))
  assert len(scores) >= 200
  assert np.mean(scores) < chance + 3.5 * spread


def test_held_out_videos_are_drawn_apart():
  trained = {tuple(scenes) for scenes in videos(RECIPE, "train", 50)}
  assert not trained & {tuple(scenes) for scenes in videos(RECIPE, "held_out", 50)}


def test_files_are_h264_of_the_truth(world):
  for name, scenes in world_files.read_truth(world).items():
    with av.open(str(world / name)) as container:
      stream = container.streams.video[0]
      assert stream.codec_context.name == "h264"
      assert stream.frames == round(scenes[-1].stop * RECIPE.fps)


def test_pictures_survive_compression(world):
  recipe = read_recipe(SMALL)
  rng = world_files.world_stream(0, "held_out", 0)
  scenes = draw_scenes(rng, recipe, held_out=True)
  drawn = np.stack(list(film_scenes(rng, scenes, recipe)))
  times = np.arange(len(drawn)) / recipe.fps
  read, _ = read_frames(str(world / world_files.video_file("held_out", 0)), times, recipe.side)
  assert np.abs(read.astype(int) - drawn).mean() < 8  # Of 255.


def test_a_world_is_the_same_again(world, tmp_path):
  world_files.write_world(tmp_path, read_recipe(SMALL), processes=1)
  for path in sorted(world.rglob("*.*")):
    assert (tmp_path / path.relative_to(world)).read_bytes() == path.read_bytes()


def test_a_stopped_world_goes_on_and_another_recipe_is_refused(world, tmp_path):
  recipe = read_recipe(SMALL)
  (tmp_path / "videos").mkdir()
  (tmp_path / world_files.WORLD).write_text(
    json.dumps(dict(recipe=recipe.as_dict(), complete=False))
  )
  world_files.write_world(tmp_path, recipe, processes=1)
  truth = (world / "truth.json").read_bytes()
  assert (tmp_path / "truth.json").read_bytes() == truth
  with pytest.raises(ValueError, match="another recipe"):
    world_files.write_world(tmp_path, dataclasses.replace(recipe, seed=1))


def test_training_records_are_true_to_their_scenes(world):
  """A caption names the scenes of the timeline in order, questions have answers in it."""
  for name in ("train", "train_brief", "captions"):
    rows = json.loads((world / f"{name}.json").read_bytes())
    assert rows
    for record in rows:
      ends = [scene["t1"] - scene["t0"] for scene in record["scenes"]]
      assert min(ends) > 0
      for question, answer in turns_of(record):
        if question == records.DESCRIBE:
          assert answer.count("on ") == len(ends)


@pytest.mark.parametrize("motion", ["left", "right", "up", "down"])
def test_a_shape_moves_the_way_it_says(motion):
  scene = WorldScene("red", "square", "blue", 0.0, 10.0, motion=motion, speed="slow")
  recipe = WorldRecipe(tasks=("motion",), fps=8)
  frames = np.stack(list(film_scenes(np.random.default_rng(0), [scene], recipe))).astype(float)
  blue = frames[..., 2] > 120
  grid = np.arange(recipe.side)
  steps = []
  for before, after in itertools.pairwise(blue):
    axis = 1 if motion in ("left", "right") else 0
    sums = [mask.sum(1 - axis) for mask in (before, after)]
    whole = all(mask[0] == mask[-1] == 0 and mask.sum() for mask in sums)
    if whole:  # Inside the picture in both.
      first, second = (float((mask * grid).sum() / mask.sum()) for mask in sums)
      steps.append(second - first)
  sign = 1 if motion in ("right", "down") else -1
  assert len(steps) > 5
  assert (sign * np.array(steps) > 0).all()


def test_digits_differ_at_every_size():
  for pixels in (5, 7, 10, 20):
    recipe = WorldRecipe(tasks=("digit",), digit_pixels=pixels)
    masks = {digit_mask(number, recipe).tobytes() for number in NUMBERS}
    assert len(masks) == len(NUMBERS)


def test_a_long_video_has_short_scenes_among_long_ones():
  recipe = WorldRecipe(held_seconds=(3600, 3600), short=(2, 2))
  (scenes,) = videos(recipe, "held_out", 1)
  lengths = {scene.short: [] for scene in scenes}
  for scene in scenes:
    lengths[scene.short].append(scene.stop - scene.start)
  assert max(lengths[True]) <= 5
  assert min(lengths[False]) >= 400
  assert scenes[-1].stop == pytest.approx(3600, abs=10)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(tasks=("colour", "smell")), "smell"),
    (dict(scenes=(4, 9)), "scenes=4,9"),
    (dict(short=(2, 4)), "no long scene"),
    (dict(held_seconds=(5, 9)), "do not hold"),
    (dict(digit_pixels=3), "digit_pixels=3"),
    (dict(seconds=(90, 60)), "seconds=90,60"),
    (dict(smell=1), "no 'smell'"),
  ],
)
def test_a_recipe_that_cannot_be_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    read_recipe(changes)


def test_the_command_makes_a_world_with_a_sheet(tmp_path, capsys):
  out = tmp_path / "w"
  words = ["--tasks", "shape,motion", "--videos", "2", "--held", "2", "--scenes", "2,3"]
  words += ["--seconds", "6,8", "--held-seconds", "6,8", "--short", "0,1", "--joined", "4"]
  assert main(["data", "world", "--out", str(out), "--short-seconds", "1,2", *words]) == 0
  assert "chance" in capsys.readouterr().out
  assert (out / "sheet.png").stat().st_size > 10_000
