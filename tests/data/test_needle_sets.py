# SPDX-License-Identifier: Apache-2.0
"""Needle manifests are read, planned and decoded; held-out cards are of other kinds."""

import json

import numpy as np
import pytest

from data_pipelines.manifest.llava import read_manifest
from data_pipelines.media.frames import read_timeline
from data_pipelines.synthesis.needle import card_of, draw_card, split_of
from data_pipelines.synthesis.needle_sets import NeedleSetOptions, write_needles
from data_pipelines.synthesis.verify.folder import verify
from filax.cli import data
from filax.testing import clips
from filax.testing.corpora import open_pipeline

SMALL = NeedleSetOptions(count=12, held_out=6, seconds=24, side=48)
TRAIN = "train-00000-of-00001.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A small set with drawn haystacks."""
  path = tmp_path_factory.mktemp("needles")
  write_needles(path, SMALL)
  return path


def read(path):
  """The records of a file."""
  return [json.loads(line) for line in path.read_text().splitlines()]


def cards(path):
  """The cards of a file's records."""
  return [card_of(picture) for record in read(path) for picture in record["made"]["cards"]]


def test_records_are_read_as_training_reads_them(folder):
  samples = list(read_manifest(folder / TRAIN))
  assert len(samples) == SMALL.count
  assert {sample.kind for sample in samples} == {"needle", "needle_chain"}


def test_the_set_is_planned_and_decoded(folder, tmp_path):
  pipeline = open_pipeline(
    tmp_path,
    train=((str(folder / TRAIN), "all"),),
    root=str(folder),
    sampling=dict(name="uniform", frames=12, phase="ends"),
    rows=((24, 0, 640, 4),),
  )
  row = pipeline.materialise()(pipeline.row(0))
  assert row["num_bad"] == 0
  assert row["frame_segment_ids"].any()


def test_a_video_lasts_as_long_as_its_haystack_and_cards(folder):
  for record in read(folder / TRAIN):
    last = record["scenes"][-1]
    needles = len(record["made"]["cards"]) * SMALL.needle_seconds
    assert last["at"] + last["t1"] - last["t0"] == pytest.approx(SMALL.seconds + needles)


def test_the_card_is_seen_where_the_record_places_it(folder):
  record = next(row for row in read(folder / TRAIN) if row["kind"] == "needle")
  sample = next(row for row in read_manifest(folder / TRAIN) if row.id == record["id"])
  (still,) = [scene for scene in record["scenes"] if scene["kind"] == "still"]
  times = np.array([still["at"] + 1.0])
  picture = read_timeline(sample.media[0], times, 48)[0][0]
  expected = draw_card(card_of(still["media"]), 48)
  assert np.abs(picture.astype(int) - expected).mean() < 4


def test_held_out_cards_are_of_other_kinds(folder):
  for name, split in ((TRAIN, "train"), ("held_out.jsonl", "test")):
    for card in cards(folder / name):
      assert split_of(card.kind, card.seed) == split


def test_the_set_passes_verification(folder):
  result = verify(folder)
  assert result.is_good, list(result.verdicts.check_lines())


def test_the_same_seed_gives_the_same_records(folder, tmp_path):
  write_needles(tmp_path / "again", SMALL)
  assert (tmp_path / "again" / TRAIN).read_bytes() == (folder / TRAIN).read_bytes()


def test_haystacks_may_be_real_files_split_by_video(tmp_path):
  paths = [clips.write_video(tmp_path / f"{name}.mp4", 40, 10) for name in "abcde"]
  out = tmp_path / "out"
  arguments = ["--count", "6", "--held-out", "3", "--frames", "12", "--side", "48"]
  assert data.main(["needles", "--out", str(out), *arguments, "--haystack", *map(str, paths)]) == 0
  media = {}
  for name in (TRAIN, "held_out.jsonl"):
    scenes = [scene for row in read(out / name) for scene in row["scenes"]]
    media[name] = {scene["media"] for scene in scenes if scene["kind"] == "video"}
  assert media[TRAIN] and media["held_out.jsonl"]
  assert not media[TRAIN] & media["held_out.jsonl"]


def test_another_recipe_is_not_overwritten(tmp_path):
  write_needles(tmp_path / "out", SMALL)
  with pytest.raises(ValueError, match="--force"):
    write_needles(tmp_path / "out", NeedleSetOptions(count=3, held_out=0, seconds=24, side=48))


def test_a_file_that_is_no_video_is_refused(tmp_path):
  (tmp_path / "a.mp4").write_text("no video")
  with pytest.raises(ValueError, match="is not a video"):
    write_needles(tmp_path / "out", NeedleSetOptions(haystack=(str(tmp_path / "a.mp4"),)))
