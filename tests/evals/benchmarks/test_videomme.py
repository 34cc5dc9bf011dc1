# SPDX-License-Identifier: Apache-2.0
"""Video-MME: reading its files, and its prompts byte for byte."""

import os
import pathlib

import numpy as np
import pytest

from filax.evals.kit import BadAnnotation, MissingAnnotation, ShownMedia, Source
from filax.evals.registry import find_benchmark, find_protocol
from filax.testing import benchmark_files, clips

ROW = benchmark_files.videomme_row()
OTHER = benchmark_files.videomme_row(videoID="Zz-9_yXwVuT", question_id="900-1", duration="long")
SHOWN = ShownMedia(4.0, np.array([0.5, 3.7]))
HEAD = (
  "Select the best answer to the following multiple-choice question based on the video and the "
  "subtitles. Respond with only the letter (A, B, C, or D) of the correct option."
)
SHORT_HEAD = HEAD.replace(" and the subtitles", "")
QUESTION = "How many cups are on the table?"
LINES = "A. Two.\nB. Three.\nC. Four.\nD. Five."
LIST = "['A. Two.', 'B. Three.', 'C. Four.', 'D. Five.']"
DIRECTLY = "Answer with the option's letter from the given choices directly."
LISTED = "This video's subtitles are listed below: \n"


def read(folder, name="videomme", **options):
  source = Source(str(folder), **options)
  return list(find_benchmark(name).read_examples(source)), source


def prompt(example, protocol, name="videomme"):
  found = find_benchmark(name).protocols[protocol].prompt(example, SHOWN)
  (turn,) = found.turns
  medium, text = turn.parts
  assert (turn.role, medium, found.answer_start, text[0]) == ("user", 0, "", "\n")
  return text[1:]


@pytest.fixture
def folder(tmp_path):
  return benchmark_files.write_videomme(tmp_path, [ROW, OTHER])


def test_rows_become_examples(folder):
  examples, source = read(folder)
  assert [example.id for example in examples] == ["017-2", "900-1"]
  first = examples[0]
  assert first.answer == "C" and first.options == ("Two.", "Three.", "Four.", "Five.")
  assert first.turn.text.strip() == QUESTION
  assert first.fields["duration_group"] == "short"
  assert source.annotations == [f"{folder}/videomme/test-00000-of-00001.parquet"]


@pytest.mark.parametrize(
  "video",
  [
    *("data/X.mp4", "data/X.MP4", "data/X.mkv", "data/X.webm"),
    *("videos/X.mp4", "videos/X.mkv", "X.mp4"),
  ],
)
def test_videos_are_found_where_the_harnesses_look(tmp_path, video):
  benchmark_files.write_videomme(tmp_path, [benchmark_files.videomme_row(videoID="X")])
  pathlib.Path(tmp_path, video).parent.mkdir(exist_ok=True)
  pathlib.Path(tmp_path, video).touch()
  (example,), _ = read(tmp_path)
  assert example.media[0][0].media == str(tmp_path / video)


def test_a_missing_video_has_the_publishers_path(folder):
  examples, _ = read(folder)
  assert examples[0].media[0][0].media == f"{folder}/data/AbCdEfGhIjK.mp4"


def test_media_may_lie_in_another_folder(folder, tmp_path):
  videos = tmp_path / "elsewhere"
  (videos / "data").mkdir(parents=True)
  (videos / "data/AbCdEfGhIjK.mkv").touch()
  examples, _ = read(folder, root=str(videos))
  assert examples[0].media[0][0].media == f"{videos}/data/AbCdEfGhIjK.mkv"


def test_one_folder_may_hold_several_benchmarks(tmp_path):
  benchmark_files.write_videomme(tmp_path / "Video-MME", [ROW])
  (example,), _ = read(tmp_path)
  assert example.media[0][0].media == f"{tmp_path}/Video-MME/data/AbCdEfGhIjK.mp4"


def test_a_missing_file_is_named_with_its_publisher(tmp_path):
  path = f"{tmp_path}/videomme/test-00000-of-00001.parquet"
  with pytest.raises(MissingAnnotation, match=rf"{path} is missing\. .*lmms-lab/Video-MME"):
    read(tmp_path)
  examples, source = read(tmp_path, allow_missing=True)
  assert not examples and len(source.missing) == 1


def test_another_version_is_named_by_its_fields(tmp_path):
  row = {name: ROW[name] for name in ROW if name not in ("task_type", "videoID")}
  benchmark_files.write_videomme(tmp_path, [row | dict(level="2")])
  with pytest.raises(BadAnnotation, match=r"has no videoID, task_type.*fields are .*level; expect"):
    read(tmp_path)


@pytest.mark.parametrize(
  "content, message",
  [
    (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    (b"PAR1 and then nothing", "no?t? a? ?whole parquet file"),
  ],
)
def test_a_file_that_is_not_there_in_full_is_a_sentence(folder, content, message):
  pathlib.Path(folder, "videomme/test-00000-of-00001.parquet").write_bytes(content)
  with pytest.raises(BadAnnotation, match=message):
    read(folder)


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(answer="E"), "not a letter of its options"),
    (dict(options=["Two.", "Three."]), 'does not begin with "A. "'),
    (dict(question=None), "the question None"),
  ],
)
def test_a_bad_row_is_listed_and_the_rest_is_read(tmp_path, changes, message):
  benchmark_files.write_videomme(tmp_path, [ROW, benchmark_files.videomme_row(**changes)])
  examples, source = read(tmp_path)
  assert len(examples) == 1
  (bad,) = source.report.bad
  assert bad.line == 2 and message in bad.reason


@pytest.mark.parametrize(
  "protocol, text",
  [
    ("lmms-eval", f"{HEAD}\n{QUESTION}\n{LINES}\n\n{DIRECTLY}"),
    ("lmms-eval-0.3", f"{HEAD}\n{QUESTION}\n{LINES}\n\n{DIRECTLY}"),
    ("lmms-eval-llava-vid", f"{HEAD}\n{QUESTION}\n{LINES}\nThe best answer is:"),
    ("lmms-eval-0.2", f"{HEAD}\n{QUESTION}\n{LIST}\n\n{DIRECTLY}"),
    ("lmms-eval-0.2.0", f"{QUESTION}\n{LIST}\nAnswer the question with A, B, C, or D."),
    (
      "vcf",
      f"These are the frames of a video. {SHORT_HEAD}\nQuestion: {QUESTION}\nOption:\n{LINES}\n"
      f"{DIRECTLY}",
    ),
    ("official", f"{SHORT_HEAD} \n{QUESTION}\n{LINES}\nThe best answer is:"),
  ],
)
def test_prompts(folder, protocol, text):
  examples, _ = read(folder)
  assert prompt(examples[0], protocol) == text


def test_the_default_of_other_families_is_todays_lmms_eval():
  benchmark = find_benchmark("videomme")
  assert find_protocol(benchmark, "", "fila")[0] == "lmms-eval"
  assert find_protocol(benchmark, "", "vcf")[0] == "vcf"


@pytest.mark.parametrize(
  "protocol, letter",
  [("lmms-eval", "B"), ("lmms-eval-0.3", "A"), ("lmms-eval-0.2", "A"), ("vcf", "A")],
)
def test_answers_are_read_as_each_version_did(folder, protocol, letter):
  examples, _ = read(folder)
  metric = find_benchmark("videomme").protocols[protocol].metric
  assert metric.score("Answer: B", examples[0]).answer == letter


def test_the_authors_divide_by_the_answered_questions(folder):
  examples, _ = read(folder)
  metrics = {name: p.metric for name, p in find_benchmark("videomme").protocols.items()}
  answers = ("C", "no idea")
  shares = {}
  for name in ("official", "vcf"):
    scores = [metrics[name].score(text, examples[0]) for text in answers]
    shares[name] = metrics[name].average(scores)["accuracy"]
  assert shares == dict(official=1.0, vcf=0.5)


def test_pages_show_no_text():
  assert not find_benchmark("videomme").shows_text
  assert not find_benchmark("videomme_subtitles").shows_text


@pytest.fixture
def subtitled(folder):
  """Two questions; the video of the first has subtitles, and is 4 s at 10 frames a second."""
  os.makedirs(f"{folder}/data")
  clips.write_video(f"{folder}/data/AbCdEfGhIjK.mp4", 40, 10)
  benchmark_files.write_captions(folder, "AbCdEfGhIjK")
  examples, source = read(folder, "videomme_subtitles")
  return examples, source


@pytest.mark.parametrize(
  "protocol, text",
  [
    (
      "lmms-eval",
      f"{LISTED}good morning\nthe kettle\nis on the stove\nand boils\n{HEAD}\n{QUESTION}\n{LINES}\n"
      "The best answer is:",
    ),
    (
      "vcf",
      f"{LISTED}good morning\nfirst take\nthe kettle\nand boils\nThese are the frames and "
      f"subtitles of a video. {HEAD}\nQuestion: {QUESTION}\nOption:\n{LINES}\nThe best answer is:",
    ),
    (
      "official",
      f"This video's subtitles are listed below:\ngood morning\nand boils \n{SHORT_HEAD} \n"
      f"{QUESTION}\n{LINES}\nThe best answer is:",
    ),
  ],
)
def test_prompts_with_subtitles(subtitled, protocol, text):
  examples, _ = subtitled
  assert prompt(examples[0], protocol, "videomme_subtitles") == text


@pytest.mark.parametrize(
  "protocol, text",
  [
    (
      "lmms-eval",
      f"{LISTED}No subtitles available\n{HEAD}\n{QUESTION}\n{LINES}\nThe best answer is:",
    ),
    (
      "vcf",
      f"\nThese are the frames of a video. {SHORT_HEAD}\nQuestion: {QUESTION}\nOption:\n{LINES}\n"
      "The best answer is:",
    ),
    ("official", f"{SHORT_HEAD} \n{QUESTION}\n{LINES}\nThe best answer is:"),
  ],
)
def test_prompts_of_a_video_without_a_subtitle_file(subtitled, protocol, text):
  examples, _ = subtitled
  assert prompt(examples[1], protocol, "videomme_subtitles") == text


def test_a_file_without_tags_keeps_its_heading(folder):
  benchmark_files.write_captions(folder, "AbCdEfGhIjK", benchmark_files.CAPTIONS[4:5], "\n")
  examples, _ = read(folder, "videomme_subtitles")
  text = prompt(examples[0], "vcf", "videomme_subtitles")
  assert text.startswith(f"{LISTED}\nThese are the frames of a video. Select")


def test_lmms_eval_finds_no_lines_for_a_video_that_is_not_mp4(folder):
  os.makedirs(f"{folder}/data")
  clips.write_video(f"{folder}/data/AbCdEfGhIjK.mkv", 40, 10)
  benchmark_files.write_captions(folder, "AbCdEfGhIjK")
  examples, _ = read(folder, "videomme_subtitles")
  assert prompt(examples[0], "lmms-eval", "videomme_subtitles").startswith(f"{LISTED}\n{HEAD}")


def test_the_folder_of_subtitles_must_be_there(folder):
  with pytest.raises(MissingAnnotation, match=r"/subtitle has 0 of the 744 subtitle files"):
    read(folder, "videomme_subtitles")
  examples, source = read(folder, "videomme_subtitles", allow_missing=True)
  assert len(examples) == 2 and len(source.missing) == 1


def test_fewer_subtitle_files_than_published_are_noted(subtitled):
  _, source = subtitled
  assert "/subtitle has 1 of the 744 subtitle files" in source.missing[0]


def test_the_folder_of_the_parquet_file_may_be_given(folder):
  os.makedirs(f"{folder}/subtitle")
  benchmark_files.write_captions(folder, "AbCdEfGhIjK")
  examples, _ = read(f"{folder}/videomme", "videomme_subtitles")
  assert examples[0].media[0][0].media == f"{folder}/data/AbCdEfGhIjK.mp4"
  assert examples[0].fields["subtitle_file"] == f"{folder}/subtitle/AbCdEfGhIjK.srt"
