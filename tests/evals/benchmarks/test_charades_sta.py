# SPDX-License-Identifier: Apache-2.0
"""Charades-STA: spans, the prompt with its misspelling, both readings of answers."""

import benchmark_reading as reading
import pytest

from filax.evals.kit import BadAnnotation, MissingAnnotation
from filax.evals.registry import find_benchmark
from filax.testing import benchmark_files_more as files

PROMPT = (
  "Please find the visual event described by a sentence in the video, determining its starting and "
  "ending times. The format should be: 'The event happens in the start time - end time'. For "
  "example, The event 'person turn a light on' happens in the 24.3 - 30.4 seonds. Now I will give "
  "you the textual sentence: person folds the map.. Please return its start time and end time."
)
RECORDS = [
  dict(video="ABCDE.mp4", caption="person folds the map.", timestamp=[2.5, 9.1]),
  dict(video="ABCDE.mp4", caption="person sits down.", timestamp=[0.0, 4]),
]


def write_json(folder):
  files.write_json(folder / "json/temporal_grounding_charades.json", RECORDS)


def write_parquet(folder):
  files.write_parquet(folder / "data/test-00000-of-00001.parquet", RECORDS)


def write_lines(folder):
  text = "ABCDE 2.5 9.1##person folds the map.\r\nABCDE 0.0 4##person sits down.\r\n"
  files.write_text(folder / "charades_sta_test.txt", text)


@pytest.fixture
def example(tmp_path):
  write_json(tmp_path)
  return reading.examples_of("charades_sta", tmp_path)[0]


@pytest.mark.parametrize("write", [write_json, write_parquet, write_lines])
def test_every_copy_gives_the_same_spans(tmp_path, write):
  write(tmp_path)
  examples = reading.examples_of("charades_sta", tmp_path)
  assert [example.span for example in examples] == [(2.5, 9.1), (0, 4)]
  assert reading.paths(examples, tmp_path) == ["Charades_v1_480/ABCDE.mp4"] * 2


@pytest.mark.parametrize("protocol", ["lmms-eval", "vcf"])
def test_the_prompt_is_the_published_one(example, protocol):
  assert reading.user_text("charades_sta", protocol, example) == PROMPT


@pytest.mark.parametrize(
  "text, lmms, vcf",
  [
    ("The event happens in the 2.5 - 9.1 seconds.", "2.5-9.1", "2.5-9.1"),
    ("The event happens in the 0:18 - 0:23.", "18-23", "0-18"),
    ("The event happens in the 5.0s - 9.0s", "5-9", None),
    ("It happens in 1. - 2.", None, "1-2"),
    ("It starts at 2 and ends at 8.", None, None),
  ],
)
def test_protocols_read_answers_in_their_own_way(example, text, lmms, vcf):
  assert reading.score_of("charades_sta", "lmms-eval", example, text).answer == lmms
  assert reading.score_of("charades_sta", "vcf", example, text).answer == vcf


def test_the_headline_is_recall_at_a_half(example):
  metric = find_benchmark("charades_sta").protocols["vcf"].metric
  answers = ("The event happens in the 2.5 - 9.1 seconds.", "The event happens in the 2 - 5.")
  scores = [metric.score(text, example) for text in answers]
  averages = metric.average(scores)
  assert averages["R@0.3"] == 1.0 and averages["R@0.5"] == averages["R@0.7"] == 0.5
  assert averages["mIoU"] == pytest.approx((1 + 2.5 / 7.1) / 2)


@pytest.mark.parametrize(
  "timestamp", [[9.1, 2.5], [3.0, 3.0], [1.0], None, ["a", 2], [0, float("nan")], [-1, 2]]
)
def test_a_span_that_is_none_is_listed(tmp_path, timestamp):
  records = [RECORDS[0], dict(RECORDS[0], timestamp=timestamp)]
  files.write_json(tmp_path / "temporal_grounding_charades.json", records)
  examples, source = reading.examples_and_source("charades_sta", tmp_path)
  assert len(examples) == 1 and "has the timestamp" in str(source.report.bad[0])


def test_a_line_of_another_form_is_listed(tmp_path):
  files.write_text(
    tmp_path / "charades_sta_test.txt", "ABCDE 1 2##person sits.\nABCDE 1 2 person sits.\n"
  )
  examples, source = reading.examples_and_source("charades_sta", tmp_path)
  assert len(examples) == 1 and len(source.report.bad) == 1


def test_fields_of_another_version_are_named(tmp_path):
  files.write_json(tmp_path / "temporal_grounding_charades.json", [dict(vid="A", query="b")])
  with pytest.raises(BadAnnotation, match=r"has no video, caption, timestamp.*are vid, query"):
    reading.examples_of("charades_sta", tmp_path)


def test_a_missing_file_is_named_with_its_publisher(tmp_path):
  with pytest.raises(MissingAnnotation, match=r"charades\.json is missing.*VideoChat-Flash"):
    reading.examples_of("charades_sta", tmp_path)
