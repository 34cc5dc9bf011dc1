# SPDX-License-Identifier: Apache-2.0
"""EgoSchema: the answered subset, and the submission of the full set."""

import benchmark_reading as reading
import pytest

from filax.evals.benchmarks import egoschema
from filax.evals.kit import BadAnnotation, MissingAnnotation
from filax.testing import benchmark_files_more as files

PROMPT = (
  "What is the aim of person 0?\nA. To clean a bowl.\nB. To mend a net.\nC. To sort stamps.\n"
  "D. To carve a spoon.\nE. To water herbs.\n"
  "Answer with the option's letter from the given choices directly."
)
WRITERS = (files.write_egoschema, files.write_egoschema_of_lmms)


@pytest.mark.parametrize("write", WRITERS)
def test_the_subset_has_the_questions_with_answers(tmp_path, write):
  examples = reading.examples_of("egoschema", write(tmp_path))
  assert [example.id for example in examples] == ["uid-0", "uid-1"]
  assert reading.right_letters(examples) == ["E", "B"]


@pytest.mark.parametrize("write", WRITERS)
def test_the_full_set_has_no_answers(tmp_path, write):
  examples = reading.examples_of("egoschema_full", write(tmp_path))
  assert [example.id for example in examples] == ["uid-0", "uid-1", "uid-2"]
  assert reading.right_letters(examples) == ["", "", ""]


@pytest.mark.parametrize("write", WRITERS)
def test_the_prompt_is_the_published_one(tmp_path, write):
  example = reading.examples_of("egoschema", write(tmp_path))[0]
  assert reading.user_text("egoschema", "lmms-eval", example) == PROMPT


def test_the_earliest_letter_counts(tmp_path):
  example = reading.examples_of("egoschema", files.write_egoschema(tmp_path))[0]
  assert reading.score_of("egoschema", "lmms-eval", example, "(E) To water herbs.").value == 1
  assert reading.score_of("egoschema", "lmms-eval", example, "A, E").value == 1
  assert not reading.score_of("egoschema", "lmms-eval", example, "I do not know").parsed


def test_videos_are_found_by_their_id(tmp_path):
  (tmp_path / "media").mkdir()
  (tmp_path / "media/uid-1.MP4").touch()
  folder = files.write_egoschema(tmp_path / "egoschema")
  examples = reading.examples_of("egoschema", folder, root=str(tmp_path / "media"))
  assert reading.paths(examples, tmp_path) == ["media/videos/uid-0.mp4", "media/uid-1.MP4"]


def test_a_folder_of_all_benchmarks_will_do(tmp_path):
  files.write_egoschema(tmp_path / "EgoSchema")
  examples = reading.examples_of("egoschema", tmp_path)
  assert reading.paths(examples[:1], tmp_path) == ["EgoSchema/videos/uid-0.mp4"]


def test_the_submission_has_every_question_and_no_other_number():
  rows = [dict(id="uid-0", choice="E"), dict(id="uid-1", choice=None), dict(id="uid-2", choice="Z")]
  numbers = egoschema.server_answers(rows)
  assert list(numbers) == ["uid-0", "uid-1", "uid-2"]
  assert numbers["uid-0"] == 4
  assert set(numbers.values()) <= set(range(5))
  assert egoschema.server_answers(rows[::-1]) == numbers


def test_a_question_that_is_not_there_is_listed(tmp_path):
  folder = files.write_egoschema(tmp_path)
  files.write_json(tmp_path / "subset_answers.json", {"uid-0": 4, "uid-9": 0})
  examples, source = reading.examples_and_source("egoschema", folder)
  assert [example.id for example in examples] == ["uid-0"]
  (bad,) = source.report.bad
  assert "subset_answers.json:2: answers uid-9, which" in str(bad)


@pytest.mark.parametrize("answer", [5, -1, "x", 1.5, True])
def test_an_answer_that_is_no_option_is_listed(tmp_path, answer):
  folder = files.write_egoschema(tmp_path)
  files.write_json(tmp_path / "subset_answers.json", {"uid-0": answer, "uid-1": "3"})
  examples, source = reading.examples_and_source("egoschema", folder)
  assert reading.right_letters(examples) == ["D"]
  assert "questions.json:1: has the answer" in str(source.report.bad[0])


def test_a_record_of_lmms_without_five_options_is_listed(tmp_path):
  row = dict(video_idx="a", question="What?", option=["A. To rest."], answer="0")
  whole = dict(row, video_idx="b", option=[f"{letter}. x" for letter in "ABCDE"])
  files.write_parquet(tmp_path / "Subset/test-00000-of-00001.parquet", [row, whole])
  examples, source = reading.examples_and_source("egoschema", tmp_path)
  assert [example.id for example in examples] == ["b"] and len(source.report.bad) == 1


def test_a_missing_file_is_named_with_its_publisher(tmp_path):
  with pytest.raises(MissingAnnotation, match=r"subset_answers\.json is missing.*github\.com/ego"):
    reading.examples_of("egoschema", tmp_path)
  assert reading.examples_of("egoschema", tmp_path, allow_missing=True) == []
  files.write_json(tmp_path / "subset_answers.json", {"uid-0": 4})
  with pytest.raises(MissingAnnotation, match=r"questions\.json is missing"):
    reading.examples_of("egoschema", tmp_path)


def test_fields_of_another_version_are_named(tmp_path):
  files.write_json(tmp_path / "questions.json", [dict(q_uid="a", question="b", options=[])])
  with pytest.raises(BadAnnotation, match=r"has no option 0.*fields are q_uid, question, options"):
    reading.examples_of("egoschema_full", tmp_path)
