# SPDX-License-Identifier: Apache-2.0
"""LongVideoBench: reading its files, and its prompts byte for byte."""

import pathlib

import numpy as np
import pytest

from data_pipelines.media import frames
from filax.evals.kit import BadAnnotation, MissingAnnotation, ShownMedia, Source
from filax.evals.registry import find_benchmark
from filax.testing import benchmark_files, clips

ROW = benchmark_files.longvideobench_row()
FIVE = benchmark_files.longvideobench_row(
  id="abc123XYZ_0_3", candidates=["a", "b", "c", "d", "e"], correct_choice=4
)
SHOWN = ShownMedia(20.0, np.array([1.0, 11.0]))
QUESTION = "At the harbour, what does the man in the red coat do next?"
DIRECTLY = "Answer with the option's letter from the given choices directly."
PLAIN = f"{QUESTION}\nA. sits down\nB. leaves\nC. waves\n{DIRECTLY}\n"


def read(folder, name="longvideobench", **options):
  source = Source(str(folder), **options)
  return list(find_benchmark(name).read_examples(source)), source


def prompt(example, protocol):
  found = find_benchmark("longvideobench").protocols[protocol].prompt(example, SHOWN)
  (turn,) = found.turns
  medium, text = turn.parts
  assert (turn.role, medium, found.answer_start, text[0]) == ("user", 0, "", "\n")
  return text[1:]


@pytest.fixture
def folder(tmp_path):
  benchmark_files.write_json(tmp_path / "lvb_val.json", [ROW, FIVE])
  benchmark_files.write_json(
    tmp_path / "subtitles/abc123XYZ_0_en.json", benchmark_files.longvideobench_subtitles()
  )
  return tmp_path


def test_records_become_examples(folder):
  examples, source = read(folder)
  first, second = examples
  assert (first.id, first.answer, second.answer) == ("abc123XYZ_0_2", "C", "E")
  assert first.media[0][0].media == f"{folder}/videos/abc123XYZ_0.mp4"
  assert first.media == second.media
  assert first.fields["duration_group"] == 600
  assert not source.report.bad


def test_the_parquet_file_gives_the_same_examples(folder, tmp_path):
  parquet = tmp_path / "parquet"
  rows = [benchmark_files.longvideobench_columns(row) for row in (ROW, FIVE)]
  benchmark_files.write_parquet(parquet / "validation-00000-of-00001.parquet", rows)
  of_json, _ = read(folder)
  of_parquet, _ = read(parquet)
  for mine, theirs in zip(of_json, of_parquet, strict=True):
    assert (mine.id, mine.options, mine.answer) == (theirs.id, theirs.options, theirs.answer)
    assert theirs.fields["starting_timestamp_for_subtitles"] == 765


def test_the_publisher_keeps_the_answers_of_the_test_set(tmp_path):
  row = benchmark_files.longvideobench_row(correct_choice=-1)
  benchmark_files.write_parquet(
    tmp_path / "test-00000-of-00001.parquet", [benchmark_files.longvideobench_columns(row)]
  )
  (example,), _ = read(tmp_path, "longvideobench_test")
  assert example.answer == ""


def test_the_submission_has_every_question():
  rows = [dict(id="a_0_1", answer="B"), dict(id="a_0_2", answer="")]
  benchmark = find_benchmark("longvideobench_test")
  assert benchmark.submission(rows) == {"a_0_1": "B", "a_0_2": ""}


def test_a_right_choice_beyond_the_options_is_a_bad_record(tmp_path):
  row = benchmark_files.longvideobench_row(correct_choice=3)
  benchmark_files.write_json(tmp_path / "lvb_val.json", [ROW, row])
  examples, source = read(tmp_path)
  assert len(examples) == 1 and "correct_choice 3 of 3 options" in source.report.bad[0].reason


def test_a_missing_file_is_named_with_its_publisher(tmp_path):
  with pytest.raises(MissingAnnotation, match=r"lvb_val\.json is missing\. .*/LongVideoBench"):
    read(tmp_path)


def test_another_version_is_named_by_its_fields(tmp_path):
  row = {name: ROW[name] for name in ROW if name != "starting_timestamp_for_subtitles"}
  benchmark_files.write_json(tmp_path / "lvb_val.json", [row])
  with pytest.raises(BadAnnotation, match="has no starting_timestamp_for_subtitles"):
    read(tmp_path)


@pytest.mark.parametrize(
  "protocol, text",
  [
    ("lmms-eval", PLAIN),
    (
      "vcf",
      " This video's subtitles are listed below: \nships come in\nbrief\nhe waves.\n Select the "
      "best answer to the following multiple-choice question based on the video and the subtitles. "
      f"Respond with only the letter of the correct option.\nQuestion: {QUESTION}\n"
      f"(A). sits down\n(B). leaves\n(C). waves\n{DIRECTLY}\n",
    ),
    (
      "official",
      f"ships come in\nhe waves\nQuestion: {QUESTION}\nA. sits down\nB. leaves\nC. waves\n"
      f"{DIRECTLY}",
    ),
  ],
)
def test_prompts(folder, protocol, text):
  examples, _ = read(folder)
  assert prompt(examples[0], protocol) == text


def test_a_protocol_that_only_resembles_the_published_one_says_what_differs():
  protocols = find_benchmark("longvideobench").protocols
  deviating = [name for name, protocol in protocols.items() if protocol.deviation]
  assert deviating == ["official"]


def test_lines_stand_between_the_pictures_of_the_frames(folder):
  examples, _ = read(folder)
  protocol = find_benchmark("longvideobench").protocols["lmms-eval-subtitles"]
  (turn,) = protocol.prompt(examples[0], SHOWN).turns
  written = "".join("<image>" if isinstance(part, int) else part for part in turn.parts)
  # Pictures are at 0, 1.25, 2.5 … 18.75 s; the lines' middles at 1.25, 2.75 and 11.875 s.
  assert written == (
    "<image>\n<image>\nships come in\n<image>\nbrief\n"
    f"{'<image>' + chr(10)}{6 * ('<image>' + chr(10))}he waves\n{6 * ('<image>' + chr(10))}{PLAIN}"
  )
  assert [part for part in turn.parts if isinstance(part, int)] == list(range(16))


def test_the_pictures_are_the_frames_of_the_harness(folder):
  clips.write_video(folder / "videos/abc123XYZ_0.mp4", 200, 10)
  examples, _ = read(folder)
  protocol = find_benchmark("longvideobench").protocols["lmms-eval-subtitles"]
  arranged = protocol.arrange(examples[0])
  numbers = []
  for (scene,) in arranged.media:
    numbers.append(clips.read_number(frames.read_picture(scene)))
  # int(int(20.0 * 10) / 16) = 12 frames from one to the next.
  assert numbers == list(range(0, 192, 12))


def test_a_short_video_has_a_picture_a_second(tmp_path):
  row = benchmark_files.longvideobench_row(duration=3.7)
  benchmark_files.write_json(tmp_path / "lvb_val.json", [row])
  clips.write_video(tmp_path / "videos/abc123XYZ_0.mp4", 37, 10)
  (example,), _ = read(tmp_path)
  arranged = find_benchmark("longvideobench").protocols["lmms-eval-subtitles"].arrange(example)
  pictures = [frames.read_picture(scene) for (scene,) in arranged.media]
  assert clips.read_numbers(pictures) == [0, 12, 24]


def test_without_subtitles_no_subtitle_file_is_needed(tmp_path):
  benchmark_files.write_json(tmp_path / "lvb_val.json", [ROW])
  (example,), _ = read(tmp_path)
  assert prompt(example, "lmms-eval") == PLAIN
  path = f"{tmp_path}/subtitles/abc123XYZ_0_en.json"
  with pytest.raises(ValueError, match=rf"{path} is missing\. .*subtitles\.tar"):
    prompt(example, "vcf")


def test_each_harness_reads_the_answer_by_its_rule(folder):
  examples, _ = read(folder)
  letters = {}
  for name, protocol in find_benchmark("longvideobench").protocols.items():
    letters[name] = protocol.metric.score("A, B", examples[0]).answer
  assert letters == {"lmms-eval": "A", "lmms-eval-subtitles": "A", "vcf": "B", "official": "A"}


def test_an_unreadable_answer_is_wrong_and_not_drawn(folder):
  examples, _ = read(folder)
  metric = find_benchmark("longvideobench").protocols["lmms-eval"].metric
  score = metric.score("none of these", examples[0])
  assert (score.value, score.parsed) == (0.0, False)


def test_videos_may_lie_beside_the_annotations(folder):
  pathlib.Path(folder, "abc123XYZ_0.mp4").touch()
  examples, _ = read(folder)
  assert examples[0].media[0][0].media == f"{folder}/abc123XYZ_0.mp4"


@pytest.mark.parametrize("protocol", ["lmms-eval-subtitles", "vcf", "official"])
def test_prompts_with_subtitles_name_their_files(tmp_path, protocol):
  benchmark_files.write_json(tmp_path / "lvb_val.json", [ROW])
  (example,), _ = read(tmp_path)
  files = find_benchmark("longvideobench").protocols[protocol].files
  assert files(example) == (f"{tmp_path}/subtitles/abc123XYZ_0_en.json",)
