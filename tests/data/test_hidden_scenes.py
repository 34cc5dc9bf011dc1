# SPDX-License-Identifier: Apache-2.0
"""Short scenes hidden in long virtual videos: lengths, places, and what else is shown."""

import json

import numpy as np
import pytest

from data_pipelines.synthesis import hidden_scenes, toy
from data_pipelines.synthesis.shapes import FPS

HELD = 64


@pytest.fixture(scope="module")
def scenes():
  return toy.held_out_scenes(0, HELD)


@pytest.fixture(scope="module")
def records(scenes):
  return hidden_scenes.hidden_records(np.random.default_rng(0), scenes, 4)


def shots_of(part, scenes):
  """The scenes of the corpus that a part of a timeline shows."""
  found = []
  for file, shot in scenes:
    inside = shot.first / FPS <= part["t0"] and part["t1"] <= shot.stop / FPS + 1e-6
    if file == part["media"] and inside:
      found.append(shot)
  return found


def test_every_cell_has_its_questions(records):
  kinds = [record["kind"] for record in records]
  cells = len(hidden_scenes.FRAMES) * len(hidden_scenes.DEPTHS)
  assert len(set(kinds)) == cells
  assert all(kinds.count(kind) == 4 for kind in set(kinds))
  assert len({record["id"] for record in records}) == len(records)


def test_the_scene_is_short_alone_and_at_its_place(records, scenes):
  for record in records:
    frames, depth = map(float, record["kind"].split("/"))
    question = record["conversations"][0]["value"]
    second = 0.0
    asked = []
    for part in record["scenes"]:
      (shot,) = shots_of(part, scenes)
      length = part["t1"] - part["t0"]
      if f"on {shot.background}?" in question:
        asked.append((shot, second, length))
      second += length
    # A part of less than a frame is left out before and after the scene, for each long scene.
    assert abs(second - frames) < 7 / FPS
    ((shot, start, length),) = asked
    assert shot.short and length == (shot.stop - shot.first) / FPS
    assert abs(start - depth * (frames - length)) < 7 / FPS
    answer = record["conversations"][1]["value"]
    assert answer.split()[-1] in (shot.shape, shot.colour)


def test_the_file_is_written_once(tmp_path):
  (tmp_path / "corpus.json").write_text(json.dumps(dict(seed=0, held=2)))
  path = hidden_scenes.write_hidden_scenes(tmp_path)
  first = path.read_bytes()
  assert len(json.loads(first)) == len(hidden_scenes.FRAMES) * len(hidden_scenes.DEPTHS)
  path.write_text("[]")
  assert hidden_scenes.write_hidden_scenes(tmp_path).read_text() == "[]"
  path.unlink()
  assert hidden_scenes.write_hidden_scenes(tmp_path).read_bytes() == first
