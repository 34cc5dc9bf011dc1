# SPDX-License-Identifier: Apache-2.0
"""CinePile: both versions, the prompt with subtitles, the announced letter."""

import benchmark_reading as reading
import pytest

from filax.evals.kit import BadAnnotation, MissingAnnotation
from filax.testing import benchmark_files_more as files

PROMPT = (
  "You will be provided with subtitles from a specific scene of a movie and all the video frames "
  "from that scene. After going through the movie scene and seeing the frames, please answer the "
  "question that follows. The question will have five possible answers labeled A, B, C, D, and E, "
  "please try to provide the most probable answer in your opinion. Your output should be just one "
  "of A,B,C,D,E and nothing else.\n**Output Format:**\n\t**Answer:** <Option_key>\n\n"
  "**Subtitles:**\n- Wait!\n- Why?\n\nWhy does Ann stop?\n- A) Rain.\n- B) A call.\n- C) A dog.\n"
  "- D) A bus.\n- E) Fear.\n\nNote: Follow the output format strictly. Only answer with the option "
  "key (A, B, C, D, E) and nothing else."
)


def record(**keys):
  fields = dict(
    movie_name="Invented",
    yt_clip_link="https://www.youtube.com/watch?v=Ab_-3456789",
    subtitles="- Wait!\n- Why?",
    question="Why does Ann stop?",
    choices=["Rain.", "A call.", "A dog.", "A bus.", "Fear."],
    answer_key="A dog.",
    answer_key_position=2,
    question_category="Narrative and\nPlot Analysis",
    hard_split="True",
  )
  return fields | keys


def write(folder, *records, name="v2/test-00000-of-00001.parquet"):
  files.write_parquet(folder / name, records)
  return folder


@pytest.fixture
def example(tmp_path):
  return reading.examples_of("cinepile", write(tmp_path, record()))[0]


def test_the_prompt_is_the_published_one(example):
  assert reading.user_text("cinepile", "lmms-eval", example) == PROMPT


def test_columns_and_answer(example, tmp_path):
  assert (example.answer, example.fields["hard_split"]) == ("C", "True")
  assert example.fields["category"] == "Narrative and Plot Analysis"
  assert reading.paths([example], tmp_path) == ["videos/Ab_-3456789.mp4"]


@pytest.mark.parametrize(
  "text, choice",
  [
    ("C", "C"),
    ("c", "C"),
    ("**Answer:** C", "C"),
    ("Answer: C) A dog.", "C"),
    ("answer: C. a DOG.", "C"),
    ("Answer: C) A cat.", None),
    ("A dog.", "C"),
    ("C) A dog.", None),
    ("Answer: F", None),
    ("", None),
  ],
)
def test_the_announced_letter_counts(example, text, choice):
  score = reading.score_of("cinepile", "lmms-eval", example, text)
  assert (score.answer, score.value) == (choice, float(choice == "C"))


def test_the_first_version_is_another_benchmark(tmp_path):
  folder = write(tmp_path, record(), name="data/test-00000-of-00001.parquet")
  assert len(reading.examples_of("cinepile_v1", folder)) == 1
  with pytest.raises(MissingAnnotation, match=r"v2/test.*is missing.*tomg-group-umd/cinepile"):
    reading.examples_of("cinepile", folder)


def test_a_clip_without_subtitles_is_asked_about(tmp_path):
  (example,) = reading.examples_of("cinepile", write(tmp_path, record(subtitles=None)))
  assert "**Subtitles:**\n\n\nWhy" in reading.user_text("cinepile", "lmms-eval", example)


@pytest.mark.parametrize(
  "change", [dict(yt_clip_link="nowhere"), dict(choices=["a"]), dict(answer_key_position=5)]
)
def test_a_bad_record_is_listed(tmp_path, change):
  folder = write(tmp_path, record(), record(**change))
  examples, source = reading.examples_and_source("cinepile", folder)
  assert len(examples) == 1 and len(source.report.bad) == 1


def test_fields_of_another_version_are_named(tmp_path):
  with pytest.raises(BadAnnotation, match="has no yt_clip_link"):
    reading.examples_of("cinepile", write(tmp_path, dict(question="Who?")))
