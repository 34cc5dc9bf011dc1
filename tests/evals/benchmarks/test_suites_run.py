# SPDX-License-Identifier: Apache-2.0
"""Suites from their files to their scores: real clips, a tiny model."""

import json
import pathlib

import pytest

import filax
from filax.evals import registry
from filax.evals.kit import Source
from filax.testing import benchmark_files, clips, tiny_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  return filax.load(tiny_checkpoint.write_checkpoint(folder, **{"data.template": "chatml"}))


@pytest.fixture(scope="module")
def mvbench(tmp_path_factory):
  """Four tasks with an mp4 of which a part is asked about, webm, avi and a folder of pictures."""
  folder = tmp_path_factory.mktemp("mvbench")
  videos = folder / "video"
  clips.write_video(videos / "star/Charades_v1_480/ZX9.mp4", 60, 10)
  clips.write_video(videos / "ssv2_video/16.webm", 20, 10, codec="libvpx-vp9")
  clips.write_video(videos / "nturgbd/S010_rgb.avi", 20, 10, codec="mpeg4")
  episode = videos / "tvqa/frames_fps3_hq/castle_clip_14"
  for number in range(1, 31):
    clips.write_picture(episode / f"{number:05d}.jpg", number)
  row = benchmark_files.mvbench_row
  tasks = dict(
    action_sequence=[row(start=1.5, end=4.0), row(start=0.0, end=99.0)],
    action_antonym=[row(video="16.webm")],
    fine_grained_pose=[row(video="S010_rgb.avi")],
    episodic_reasoning=[row(video="castle_clip_14", start=2.0, end=8.5, fps=3)],
  )
  return benchmark_files.write_mvbench(folder, tasks)


def run(session, name, data, **options):
  return filax.evaluate(session, name, data=data, batch=4, progress=False, **options)


@pytest.mark.parametrize("protocol", ["lmms-eval", "vcf", "official"])
def test_mvbench_is_scored_by_task(session, mvbench, protocol):
  result = run(session, "mvbench", mvbench, protocol=protocol, allow_missing=True)
  assert (result["questions"], result["videos"], result["skipped"]) == (5, 5, 0), result
  tasks = result["by"]["task"]
  assert {task: group["questions"] for task, group in tasks.items()} == dict(
    action_sequence=2, action_antonym=1, fine_grained_pose=1, episodic_reasoning=1
  )
  benchmark = registry.find_benchmark("mvbench")
  metric = benchmark.protocols[protocol].metric
  examples = benchmark.read_examples(Source(mvbench, allow_missing=True))
  answers = {row["id"]: row for row in result["answers"]}
  for example in examples:
    row = answers[example.id]
    assert row["score"] == metric.score(row["answer"], example).value
  seconds = {row["id"]: row["duration"] for row in result["answers"]}
  assert seconds["action_sequence/0"] == 2.5 and seconds["action_sequence/1"] == 6.0
  assert seconds["episodic_reasoning/0"] == 6.5


def test_what_is_missing_keeps_a_score_from_being_comparable(session, mvbench):
  result = run(session, "mvbench", mvbench, allow_missing=True)
  assert result["protocol"] == "lmms-eval" and not result["comparable"]
  reasons = "\n".join(result["reasons"])
  assert "5 of 4000 questions" in reasons
  assert "action_prediction.json is missing. MVBench's authors have it" in reasons


@pytest.fixture(scope="module")
def videomme(tmp_path_factory):
  folder = tmp_path_factory.mktemp("videomme")
  rows = []
  for number in (1, 2):
    rows.append(benchmark_files.videomme_row(question_id=f"017-{number}"))
  rows.append(benchmark_files.videomme_row(videoID="Zz-9_yXwVuT", question_id="900-1"))
  clips.write_video(folder / "data/AbCdEfGhIjK.mp4", 40, 10)
  clips.write_video(folder / "data/Zz-9_yXwVuT.mkv", 30, 10)
  benchmark_files.write_captions(folder, "AbCdEfGhIjK")
  return benchmark_files.write_videomme(folder, rows)


@pytest.mark.parametrize("protocol", ["lmms-eval", "vcf", "official"])
def test_videomme_with_subtitles_runs(session, videomme, tmp_path, protocol):
  result = run(session, "videomme_subtitles", videomme, protocol=protocol, out=tmp_path)
  assert (result["questions"], result["videos"], result["skipped"]) == (3, 2, 0), result
  assert set(result["by"]["duration_group"]) == {"short"}
  assert any("of the 744 subtitle files" in reason for reason in result["reasons"])


def test_nothing_that_is_written_shows_a_question_of_videomme(session, videomme, tmp_path):
  run(session, "videomme", videomme, out=tmp_path)
  (row, *_) = map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())
  assert row["question"] == "" and row["expected"] == "C"
  for path in pathlib.Path(tmp_path).iterdir():
    text = path.read_bytes()
    assert b"How many cups" not in text and b"Three." not in text, path


@pytest.fixture(scope="module")
def longvideobench(tmp_path_factory):
  folder = tmp_path_factory.mktemp("longvideobench")
  row = benchmark_files.longvideobench_row
  rows = [row(duration=4.0), row(id="abc123XYZ_0_3", duration=4.0, duration_group=15)]
  benchmark_files.write_json(folder / "lvb_val.json", rows)
  subtitles = benchmark_files.longvideobench_subtitles()
  benchmark_files.write_json(folder / "subtitles/abc123XYZ_0_en.json", subtitles)
  clips.write_video(folder / "videos/abc123XYZ_0.mp4", 40, 10)
  return folder


@pytest.mark.parametrize("protocol", ["lmms-eval", "lmms-eval-subtitles", "vcf", "official"])
def test_longvideobench_runs(session, longvideobench, protocol):
  result = run(session, "longvideobench", longvideobench, protocol=protocol)
  assert (result["questions"], result["skipped"]) == (2, 0), result
  assert set(result["by"]["duration_group"]) == {"15", "600"}
  prompt = result["first_prompt"]
  pictures = 4 if protocol == "lmms-eval-subtitles" else 1
  assert prompt.count("visual tokens>") == pictures
  assert ("ships come in" in prompt) == (protocol != "lmms-eval")
