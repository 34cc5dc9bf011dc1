# SPDX-License-Identifier: Apache-2.0
"""PerceptionTest: the authors' JSON, lmms-eval's parquet, the submission."""

import time

import benchmark_reading as reading
import pytest

from filax.evals.benchmarks import perceptiontest
from filax.evals.kit import BadAnnotation, MissingAnnotation
from filax.evals.submissions import every_row, submitted_option
from filax.testing import benchmark_files_more as files

LMMS_PROMPT = (
  "What does person 0 lift?\nA. The cup.\nB. The spoon.\nC. Neither.\n"
  "Answer with the option's letter from the given choices directly."
)
VCF_PROMPT = (
  "\nQuestion: What does person 0 lift?\n(A). The cup.\n(B). The spoon.\n(C). Neither.\n"
  "Only give the best option."
)
WRITERS = (files.write_perceptiontest, files.write_perceptiontest_of_lmms)
QUESTIONS = 19_140


@pytest.mark.parametrize("write", WRITERS)
def test_both_copies_have_the_same_questions(tmp_path, write):
  examples = reading.examples_of("perceptiontest", write(tmp_path))
  assert [example.id for example in examples] == ["video_7/0", "video_7/4", "video_8/0"]
  assert reading.right_letters(examples) == ["C", "A", "B"]
  assert reading.paths(examples[:1], tmp_path) == ["videos/video_7.mp4"]


@pytest.mark.parametrize("write", WRITERS)
def test_columns_to_report_by(tmp_path, write):
  examples = reading.examples_of("perceptiontest", write(tmp_path))
  assert [example.fields["area"] for example in examples] == ["physics", "memory", "physics"]
  assert examples[2].fields["reasoning"] == "predictive"


@pytest.mark.parametrize("protocol, text", [("lmms-eval", LMMS_PROMPT), ("vcf", VCF_PROMPT)])
@pytest.mark.parametrize("write", WRITERS)
def test_prompts_are_the_published_ones(tmp_path, write, protocol, text):
  example = reading.examples_of("perceptiontest", write(tmp_path))[0]
  assert reading.user_text("perceptiontest", protocol, example) == text


@pytest.mark.parametrize("text, value, choice", [("D", 0, "D"), ("C.", 1, "C"), ("none", 0, None)])
def test_a_letter_without_option_is_wrong(tmp_path, text, value, choice):
  example = reading.examples_of("perceptiontest", files.write_perceptiontest(tmp_path))[0]
  score = reading.score_of("perceptiontest", "vcf", example, text)
  assert (score.value, score.answer) == (value, choice)


@pytest.mark.parametrize("write", WRITERS)
def test_the_test_set_has_no_answers(tmp_path, write):
  examples = reading.examples_of("perceptiontest_test", write(tmp_path))
  assert [example.id for example in examples] == ["video_9/1", "video_9/3"]
  assert reading.right_letters(examples) == ["", ""]


def test_the_submission_has_every_question(tmp_path):
  examples = reading.examples_of("perceptiontest_test", files.write_perceptiontest(tmp_path))
  rows = every_row([dict(id="video_9/1", choice="B")], examples)
  (answers,) = perceptiontest.evalai_answers(rows).values()
  assert answers[0] == dict(id=1, answer_id=1, answer="The spoon.")
  assert answers[1]["id"] == 3 and answers[1]["answer_id"] in range(3)


@pytest.mark.parametrize("choice", ["D", "", None, "AB"])
def test_an_invalid_choice_becomes_a_guess_by_the_id(choice):
  row = dict(id="video_9/3", choice=choice)
  assert submitted_option(row, 3) == submitted_option(dict(id="video_9/3"), 3)
  assert submitted_option(row, 3) in range(3)


@pytest.mark.parametrize(
  "change, reason",
  [
    (dict(answer_id="3"), "none of 0 to 2"),
    (dict(options=["a", "b"]), "has 2 options, not 3"),
    (dict(options=None), "not a list of texts"),
    (dict(question=" "), "an empty question"),
  ],
)
def test_a_bad_record_is_listed(tmp_path, change, reason):
  rows = [files.perception_row(1, 0, answer_id="0"), files.perception_row(1, 1, answer_id="0")]
  rows[1] |= change
  files.write_parquet(tmp_path / "mc_question_val/validation-00000-of-00001.parquet", rows)
  examples, source = reading.examples_and_source("perceptiontest", tmp_path)
  assert len(examples) == 1 and reason in str(source.report.bad[0])


def test_the_file_of_another_task_is_refused(tmp_path):
  files.write_json(tmp_path / "mc_question_valid.json", dict(video_1=dict(object_tracking=[])))
  with pytest.raises(BadAnnotation, match="video_1 without mc_question"):
    reading.examples_of("perceptiontest", tmp_path)


def test_records_without_answers_are_of_another_version(tmp_path):
  files.write_parquet(
    tmp_path / "mc_question_val/validation-00000-of-00001.parquet", [files.perception_row(1, 0)]
  )
  with pytest.raises(BadAnnotation, match="has no answer_id"):
    reading.examples_of("perceptiontest", tmp_path)


def test_a_missing_file_is_named_with_its_publisher(tmp_path):
  with pytest.raises(MissingAnnotation, match=r"mc_question_valid\.json is missing.*deepmind"):
    reading.examples_of("perceptiontest", tmp_path)


def test_all_questions_are_read_in_a_second(tmp_path):
  rows = []
  for number in range(QUESTIONS):
    rows.append(files.perception_row(number // 3, number % 3, answer_id=str(number % 3)))
  files.write_parquet(tmp_path / "mc_question_val/validation-00000-of-00001.parquet", rows)
  start = time.process_time()
  examples = reading.examples_of("perceptiontest", tmp_path)
  assert time.process_time() - start < 1
  assert len(examples) == QUESTIONS
