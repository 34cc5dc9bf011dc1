# SPDX-License-Identifier: Apache-2.0
"""MLVU: reading its dev set, lmms-eval's copy and its test set, and its prompts byte for byte."""

import os
import pathlib

import numpy as np
import pytest

from filax.evals.benchmarks import mlvu
from filax.evals.kit import BadAnnotation, MissingAnnotation, ShownMedia, Source
from filax.evals.registry import find_benchmark
from filax.testing import benchmark_files

SHOWN = ShownMedia(480.0, np.zeros(1))
QUESTION = "What does the chef drop?"
LINES = "(A) A spoon\n(B) A pan\n(C) An egg\n(D) A cup"
SYSTEM = (
  "Carefully watch this video and pay attention to every detail. Based on your observations, "
  "select the best option that accurately addresses the question."
)
SIX = benchmark_files.mlvu_row(
  candidates=["1", "2", "3", "4", "5", "6"],
  answer="6",
  question_type="sportsQA",
  question_id="SQA_0",
)


def read(folder, name="mlvu", **options):
  source = Source(str(folder), **options)
  return list(find_benchmark(name).read_examples(source)), source


def write_dev(folder, rows, file="2_needle"):
  benchmark_files.write_json(pathlib.Path(folder, f"json/{file}.json"), rows)


@pytest.fixture
def example(tmp_path):
  write_dev(tmp_path, [benchmark_files.mlvu_row()])
  (example,), _ = read(tmp_path, allow_missing=True)
  return example


@pytest.fixture
def copied(tmp_path):
  path = tmp_path / "copy/mlvu/test-00000-of-00001.parquet"
  rows = [benchmark_files.mlvu_copy_row(), benchmark_files.mlvu_copy_row(video_name="n_1.mp4")]
  benchmark_files.write_parquet(path, rows)
  examples, _ = read(tmp_path / "copy")
  return examples


def test_records_become_examples(example, tmp_path):
  assert (example.id, example.answer) == ("needle/0", "C")
  assert example.fields["task"] == "needle"
  assert example.media[0][0].media == f"{tmp_path}/video/2_needle/needle_32.mp4"


def test_all_seven_files_are_read(tmp_path):
  for name in mlvu.DEV_FILES:
    write_dev(tmp_path, [benchmark_files.mlvu_row()], name)
  examples, source = read(tmp_path)
  tasks = {example.fields["task"] for example in examples}
  assert tasks == {
    *("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")
  }
  assert len(source.annotations) == 7


@pytest.mark.parametrize(
  "path", ["video/2_needle/needle_32.mp4", "video/needle/needle_32.mp4", "needle_32.mp4"]
)
def test_videos_are_found_in_the_folders_of_each_harness(tmp_path, path):
  write_dev(tmp_path, [benchmark_files.mlvu_row()])
  pathlib.Path(tmp_path, path).parent.mkdir(parents=True, exist_ok=True)
  pathlib.Path(tmp_path, path).touch()
  (example,), _ = read(tmp_path, allow_missing=True)
  assert example.media[0][0].media == f"{tmp_path}/{path}"


def test_an_answer_that_is_no_option_stays_in_the_denominator(tmp_path):
  rows = [benchmark_files.mlvu_row(), benchmark_files.mlvu_row(answer="A fork")]
  write_dev(tmp_path, rows)
  examples, source = read(tmp_path, allow_missing=True)
  assert [example.answer for example in examples] == ["C", "@"] and not source.report.bad
  for protocol in find_benchmark("mlvu").protocols.values():
    scores = [protocol.metric.score("C", example) for example in examples]
    assert protocol.metric.average(scores)["accuracy"] == 0.5


def test_an_option_may_be_empty_and_right(tmp_path):
  write_dev(tmp_path, [benchmark_files.mlvu_row(candidates=["a", "b", ""], answer="")])
  (example,), _ = read(tmp_path, allow_missing=True)
  assert example.answer == "C"


def test_lmms_evals_copy_lists_options_in_its_questions(copied, example):
  assert copied[0].turn == example.turn and copied[0].answer == example.answer
  for name, protocol in find_benchmark("mlvu").protocols.items():
    assert protocol.prompt(copied[0], SHOWN) == protocol.prompt(example, SHOWN), name


def test_the_copys_videos_may_be_named_without_extension(copied, tmp_path):
  media = [example.media[0][0].media for example in copied]
  assert media == [f"{tmp_path}/copy/ego_2.mp4", f"{tmp_path}/copy/n_1.mp4"]


def test_the_folder_of_the_copys_file_may_be_given(copied, tmp_path):
  (tmp_path / "copy/ego_2.mp4").touch()
  examples, _ = read(tmp_path / "copy/mlvu")
  assert [example.turn for example in examples] == [example.turn for example in copied]
  assert os.path.samefile(examples[0].media[0][0].media, tmp_path / "copy/ego_2.mp4")


def test_the_test_set_has_six_options(tmp_path):
  benchmark_files.write_json(tmp_path / "test-ground-truth/test_mcq_gt.json", [SIX])
  (example,), _ = read(tmp_path, "mlvu_test")
  assert (example.id, example.answer, example.fields["task"]) == ("SQA_0", "F", "sportsQA")
  assert example.media[0][0].media == f"{tmp_path}/video/needle_32.mp4"
  metric = find_benchmark("mlvu_test").protocols["official"].metric
  assert metric.score("F) 6", example).value == 1.0


@pytest.mark.parametrize(
  "protocol, text",
  [
    ("lmms-eval", f"{QUESTION}\n{LINES}\nOnly give the best option.\nBest option: ("),
    (
      "vcf",
      f"Question:{QUESTION}\nOption:\n{LINES}\nAnswer with the option's letter from the given "
      "choices directly.",
    ),
  ],
)
def test_prompts(example, protocol, text):
  prompt = find_benchmark("mlvu").protocols[protocol].prompt(example, SHOWN)
  (turn,) = prompt.turns
  assert (turn.role, turn.parts, prompt.answer_start) == ("user", (0, f"\n{text}"), "")


def test_the_authors_prompt_begins_the_answer(example):
  prompt = find_benchmark("mlvu").protocols["official"].prompt(example, SHOWN)
  system, user = prompt.turns
  assert (system.role, system.text, prompt.answer_start) == ("system", SYSTEM, "Best Option: (")
  text = f"Question: {QUESTION}\nOptions:\n{LINES}\nOnly give the best option."
  assert user.parts == (0, f"\n{text}")


def test_which_mean_is_the_score_depends_on_the_protocol():
  benchmark = find_benchmark("mlvu")
  macro = {name: protocol.macro for name, protocol in benchmark.protocols.items()}
  assert benchmark.macro == "task"
  assert macro == {"lmms-eval": True, "vcf": False, "official": True}


@pytest.mark.parametrize(
  "name, message",
  [
    ("mlvu", r"1_plotQA\.json is missing\. .*MLVU/MVLU"),
    ("mlvu_test", r"test_mcq_gt\.json is missing\. .*MLVU_Test"),
  ],
)
def test_a_missing_file_is_named_with_its_publisher(tmp_path, name, message):
  with pytest.raises(MissingAnnotation, match=message):
    read(tmp_path, name)


def test_the_files_of_free_texts_are_another_benchmark(tmp_path):
  row = dict(video="a.mp4", duration=9, question="What happens?", answer="…")
  write_dev(tmp_path, [row], "1_plotQA")
  with pytest.raises(BadAnnotation, match="has no candidates, question_type"):
    read(tmp_path, allow_missing=True)
