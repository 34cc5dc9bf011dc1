# SPDX-License-Identifier: Apache-2.0
"""The manifest that the README prints is read as the README says."""

import ast
import pathlib
import re

import numpy as np
import pytest

import data_pipelines
from data_pipelines.manifest import llava
from data_pipelines.manifest.reader import select_records
from data_pipelines.media import frames as video
from data_pipelines.sample import Scene
from data_pipelines.tools import check
from filax.testing import clips

README = pathlib.Path(data_pipelines.__file__).with_name("README.md").read_text()


def block(language):
  return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)[1]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
  folder = tmp_path_factory.mktemp("readme")
  clips.write_video(folder / "videos" / "market.mp4", 40)
  clips.write_picture_folder(folder / "frames" / "harbour@4fps", 12)
  for shown, name in ((200, "before"), (201, "after")):
    clips.write_picture(folder / "photos" / f"{name}.jpg", shown)
  path = folder / "manifest.json"
  path.write_text(block("json"))
  return path


def test_the_example_is_good(manifest):
  result = check.check_manifests([manifest], decode=True)
  assert result.report.bad == [] and result.report.samples == 6
  assert result.report.prepended == result.report.surplus == 0
  assert result.counts == {"video": 4, "images": 1, "text only": 1}


def test_the_example_is_what_the_text_says(manifest):
  one, part, frames, photos, scenes, text = llava.read_manifest(manifest)
  folder = f"{manifest.parent}/"
  assert (one.id, one.turns[0].parts) == ("market-1", (0, "\nWhat does the man sell?"))
  assert [turn.role for turn in one.turns] == ["user", "assistant"] * 2
  assert part.kind == "counting"
  assert part.media == ((Scene(folder + "videos/market.mp4", t0=1.5, t1=3.0),),)
  assert photos.turns[0].role == "system"
  assert photos.turns[1].parts == ("Before: ", 0, " After: ", 1, " What has changed?")
  assert [timeline[0].kind for timeline in photos.media] == ["image", "image"]
  assert text.media == ()
  shown, _ = video.read_timeline(frames.media[0], [0.0, 1.0, 9.0], 32)
  assert clips.read_numbers(shown) == [0, 4, 11]
  shown, seen = video.read_timeline(scenes.media[0], [0.0, 0.9, 1.0, 1.4, 1.5, 1.9, 2.0, 3.0], 32)
  assert clips.read_numbers(shown) == [5, 14, 200, 200, 20, 24, 0, 4]
  np.testing.assert_allclose(seen, [0, 0.9, 1, 1, 1.5, 1.9, 2, 3], atol=1e-6)


def test_the_strategies_of_the_example_exist():
  mixture = ast.literal_eval(block("python").partition("=")[2].strip())
  assert [len(select_records(30, strategy)) for _, strategy in mixture] == [30, 3, 30]
