# SPDX-License-Identifier: Apache-2.0
"""NExT-QA: the authors' CSV files and lmms-eval's parquet."""

import collections

import benchmark_reading as reading
import pytest

from filax.evals.kit import BadAnnotation, MissingAnnotation
from filax.testing import benchmark_files_more as files

PROMPT = (
  "how do the two man play the instrument\nA. roll the handle\nB. tap their feet\n"
  "C. strum the string\nD. hit with sticks\nE. pat with hand"
)
VAL_TYPES = dict(CW=1924, CH=683, TN=895, TP=54, TC=663, DC=177, DL=295, DO=305)


@pytest.fixture
def examples(tmp_path):
  return reading.examples_of("nextqa", files.write_nextqa(tmp_path))


def test_answers_are_letters(examples):
  assert [example.id for example in examples] == ["4010069381_6", "2574374895_8", "1000000001_0"]
  assert reading.right_letters(examples) == ["A", "C", "E"]


def test_the_prompt_asks_for_no_letter(examples):
  assert reading.user_text("nextqa", "lmms-eval", examples[0]) == PROMPT


def test_quoted_commas_and_quotes_are_read(examples):
  assert examples[2].options[1] == 'a "thud"'
  text = reading.user_text("nextqa", "lmms-eval", examples[2])
  assert text.startswith("what happened before the dog barked, if anything\nA. a bell rang\n")


def test_a_previous_event_counts_as_temporal(examples):
  groups = [(example.fields["type"], example.fields["group"]) for example in examples]
  assert groups == [("CH", "causal"), ("TN", "temporal"), ("TP", "temporal")]


def test_videos_lie_as_in_vidor_or_flat(tmp_path):
  folder = files.write_nextqa(tmp_path)
  (tmp_path / "NExTVideo").mkdir()
  (tmp_path / "NExTVideo/2574374895.mp4").touch()
  examples = reading.examples_of("nextqa", folder)
  assert reading.paths(examples, tmp_path) == [
    "NExTVideo/1106/4010069381.mp4",
    "NExTVideo/2574374895.mp4",
    "NExTVideo/1000000001.mp4",
  ]


def test_the_map_is_not_needed(tmp_path):
  folder = files.write_nextqa(tmp_path)
  (tmp_path / "map_vid_vidorID.json").unlink()
  examples = reading.examples_of("nextqa", folder)
  assert reading.paths(examples[:1], tmp_path) == ["NExTVideo/4010069381.mp4"]


@pytest.mark.parametrize("name", ["val.csv", "nextqa/val.csv", "dataset/nextqa/val.csv"])
def test_the_validation_set_is_found_in_the_repository(tmp_path, name):
  folder = files.write_nextqa(tmp_path, name, newline="\r\n")
  examples, source = reading.examples_and_source("nextqa_val", folder)
  assert len(examples) == 3 and len(source.annotations) == 2


def test_the_copy_of_lmms_has_numbers(tmp_path):
  row = dict(video=4010069381, frame_count=9, width=4, height=3, question=" who is it ", answer=1)
  row |= dict(qid=6, type="CW", a0="a", a1="b ", a2="c", a3="d", a4="e")
  files.write_parquet(tmp_path / "MC/test-00000-of-00001.parquet", [row])
  (example,) = reading.examples_of("nextqa", tmp_path)
  assert (example.id, example.answer) == ("4010069381_6", "B")
  text = reading.user_text("nextqa", "lmms-eval", example)
  assert text == "who is it\nA. a\nB. b\nC. c\nD. d\nE. e"


def test_the_last_of_two_letters_counts(examples):
  assert reading.score_of("nextqa", "lmms-eval", examples[0], "A. roll the handle").value == 1
  assert reading.score_of("nextqa", "lmms-eval", examples[0], "A, B").answer == "B"


@pytest.mark.parametrize(
  "line, reason",
  [
    ("1,2,3,4,why,5,0,CW,a,b,c,d,e", "none of 0 to 4"),
    ("1,2,3,4,why,,0,CW,a,b,c,d,e", "the answer"),
    ("1,2,3,4,why,1,0,CW,a,b,c,d", "the a4 null"),
    ("1,2,3,4,,1,0,CW,a,b,c,d,e", "an empty question"),
  ],
)
def test_a_bad_line_is_listed(tmp_path, line, reason):
  files.write_text(
    tmp_path / "test.csv", f"{files.NEXTQA_HEADER}\n{line}\n{files.NEXTQA_ROWS[0]}\n"
  )
  examples, source = reading.examples_and_source("nextqa", tmp_path)
  assert len(examples) == 1
  assert "test.csv:1: " in str(source.report.bad[0]) and reason in str(source.report.bad[0])


def test_the_open_questions_are_another_file(tmp_path):
  header = "video,frame_count,width,height,question,answer,qid,type"
  files.write_text(tmp_path / "test.csv", f"{header}\n1,2,3,4,why,because,0,CW\n")
  with pytest.raises(BadAnnotation, match=r"has no a0, a1, a2, a3, a4.*fields are video, frame"):
    reading.examples_of("nextqa", tmp_path)


def test_a_missing_file_is_named_with_its_publisher(tmp_path):
  with pytest.raises(MissingAnnotation, match=r"test\.csv is missing.*doc-doc/NExT-QA"):
    reading.examples_of("nextqa", tmp_path)


def test_the_real_validation_set_is_counted():
  examples = reading.examples_of("nextqa_val", reading.real_annotations("nextqa"))
  assert len(examples) == 4996 and len({example.media for example in examples}) == 570
  assert len({example.id for example in examples}) == 4996
  assert collections.Counter(example.fields["type"] for example in examples) == VAL_TYPES
