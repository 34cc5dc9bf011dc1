# SPDX-License-Identifier: Apache-2.0
"""TempCompass: three tasks and their rules; captioning is left out."""

import benchmark_reading as reading
import pytest

from filax.evals.kit import BadAnnotation, MissingAnnotation
from filax.evals.registry import find_benchmark
from filax.testing import benchmark_files_more as files

BEST = "\nPlease directly give the best option:"


def write_copy_of_lmms(folder):
  for task, videos in files.tempcompass_questions().items():
    rows = []
    for video, dims in videos.items():
      for dim, questions in dims.items():
        rows += [question | dict(video_id=video, dim=dim) for question in questions]
    files.write_parquet(folder / f"{task}/test-00000-of-00001.parquet", rows)
  return str(folder)


@pytest.fixture
def examples(tmp_path):
  return reading.examples_of("tempcompass", files.write_tempcompass(tmp_path))


@pytest.mark.parametrize("write", [files.write_tempcompass, write_copy_of_lmms])
def test_three_tasks_are_asked(tmp_path, write):
  examples = reading.examples_of("tempcompass", write(tmp_path))
  columns = [(example.fields["task"], example.fields["dim"]) for example in examples]
  assert columns == [
    *[("multi-choice", "direction")] * 2,
    ("yes_no", "direction"),
    ("yes_no", "speed"),
    ("caption_matching", "order"),
  ]
  assert reading.paths(examples[2:3], tmp_path) == ["videos/1034419625_reverse.mp4"]


@pytest.mark.parametrize("protocol", ["lmms-eval", "official"])
def test_prompts_end_in_the_request_of_their_task(examples, protocol):
  texts = [reading.user_text("tempcompass", protocol, example) for example in examples]
  assert texts[0] == files.TEMPCOMPASS_CHOICE + BEST
  assert texts[2] == "Does the ball roll left?\nPlease answer yes or no:"
  assert texts[4] == files.TEMPCOMPASS_MATCHING + BEST


@pytest.mark.parametrize(
  "number, text, value",
  [
    (0, "B", 1),
    (0, "B. to the right", 1),
    (0, "A) to the left", 0),
    (0, "to the right", 0),
    (2, "No, it does not.", 1),
    (2, "Yes", 0),
    (4, "Option 2", 1),
    (4, "2.", 1),
    (4, "The ball rolls right.", 1),
    (4, "Option 1: The ball rolls left.", 0),
  ],
)
def test_the_rules_decide(examples, number, text, value):
  assert reading.score_of("tempcompass", "official", examples[number], text).value == value


def test_the_average_is_over_questions(examples):
  metric = find_benchmark("tempcompass").protocols["official"].metric
  answers = ("B", "A", "no", "yes", "nothing")
  scores = []
  for text, example in zip(answers, examples, strict=True):
    scores.append(metric.score(text, example))
  assert metric.average(scores)[metric.headline] == pytest.approx(2 / 5)


def test_reports_say_that_captioning_is_left_out():
  for protocol in find_benchmark("tempcompass").protocols.values():
    assert "Rule-based" in protocol.note and "Captioning" in protocol.note


def test_a_missing_task_is_named(tmp_path):
  files.write_tempcompass(tmp_path)
  (tmp_path / "questions/yes_no.json").unlink()
  with pytest.raises(MissingAnnotation, match=r"yes_no\.json is missing.*llyx97/TempCompass"):
    reading.examples_of("tempcompass", tmp_path)
  examples, source = reading.examples_and_source("tempcompass", tmp_path, allow_missing=True)
  assert len(examples) == 3 and len(source.missing) == 1


def test_a_bad_question_is_listed(tmp_path):
  folder = files.write_tempcompass(tmp_path)
  closed = dict(question="Is it so?", answer="no")
  content = dict(v=dict(order=[closed, dict(question="Is it?"), 3], speed="none"))
  files.write_json(tmp_path / "questions/yes_no.json", content)
  examples, source = reading.examples_and_source("tempcompass", folder)
  assert len(examples) == 4 and len(source.report.bad) == 3


@pytest.mark.parametrize("content", [{"v": []}, {"v": {"order": [{"q": 1}]}}])
def test_another_file_of_this_name_is_refused(tmp_path, content):
  folder = files.write_tempcompass(tmp_path)
  files.write_json(tmp_path / "questions/yes_no.json", content)
  with pytest.raises(BadAnnotation):
    reading.examples_of("tempcompass", folder)
