# SPDX-License-Identifier: Apache-2.0
"""PerceptionTest: three options about short filmed situations (arXiv:2305.13786).

`perceptiontest` is the validation set; `perceptiontest_test` has no answers and writes the object
that EvalAI scores. Published validation scores are of uncut videos: the authors'
cut_frame_mapping_valid.json is not applied.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
from typing import Any

from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene
from filax.evals import kit, published_rules
from filax.evals.annotation_files import (
  Row,
  find_file,
  options_field,
  parsed_rows,
  read_rows,
)
from filax.evals.annotation_formats import check_fields, json_object
from filax.evals.annotation_values import id_field, is_empty, option_number, words_field
from filax.evals.kit import (
  BadAnnotation,
  Benchmark,
  Example,
  NamedProtocol,
  Prompt,
  ShownMedia,
  Source,
)
from filax.evals.media_lookup import MediaLookup, with_extensions
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.word_letter import word_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.prompt_parts import option_lines, question_text, video_prompt, video_turn
from filax.evals.submissions import submitted_option

OPTIONS = 3
PUBLISHER = (
  "Its authors have it at https://github.com/google-deepmind/perception_test "
  "(multiple-choice video QA)."
)
FOLDERS = ("PerceptionTest", "PerceptionTest_Val", "perceptiontest", "perception_test")
VALIDATION_FILES = (
  "mc_question_valid.json",
  "mc_question_valid_annotations.json",
  "all_valid.json",
  "mc_question_val/validation-00000-of-00001.parquet",
  "data/validation-00000-of-00001.parquet",
)
TEST_FILES = (
  "mc_question_test.json",
  "mc_question_test_annotations.json",
  "all_test.json",
  "mc_question/test-00000-of-00001.parquet",
  "data/test-00000-of-00001.parquet",
)
QUESTIONS_KEY = "mc_question"  # Key of a video's questions in the authors' files.
FIELDS = ("video_name", "question", "question_id", "options")


def read_examples(
  source: Source, names: Sequence[str] = VALIDATION_FILES, answers: bool = True
) -> Iterator[Example]:
  """The questions of a split; `answers`: whether its answers are public."""
  file = find_file(source, FOLDERS, names, PUBLISHER)
  if file is None:
    return
  fields = (*FIELDS, "answer_id") if answers else FIELDS
  read = read_rows if file.path.endswith(".parquet") else _official_rows
  videos = MediaLookup(source.root or file.folder)
  video_path = functools.cache(functools.partial(_video_path, videos))  # A video has 3 questions.
  parse = functools.partial(_example, video_path, answers)
  yield from parsed_rows(source, file.path, read(file.path, fields), parse)


def _official_rows(path: str, fields: Sequence[str]) -> list[Row]:
  """The questions of the authors' file with the fields of lmms-eval's copy."""
  rows: list[Row] = []
  for video, record in json_object(path).items():
    questions = record.get(QUESTIONS_KEY) if isinstance(record, Mapping) else None
    if not isinstance(questions, list):
      raise BadAnnotation(
        f"{path} has {video} without {QUESTIONS_KEY}. It may be the file of another task."
      )
    for question in questions:
      if not isinstance(question, Mapping):
        question = {}
      rows.append({**question, "video_name": video, "question_id": question.get("id")})
  check_fields(path, rows, fields)
  return rows


def _video_path(videos: MediaLookup, video: str) -> str:
  return videos.path(with_extensions(video, ("videos", "")))


def _example(video_path: Callable[[str], str], answers: bool, number: int, row: Row) -> Example:
  """The question of a record. Raises RecordError."""
  del number
  video = words_field(row, "video_name")
  options = options_field(row, "options")
  if len(options) != OPTIONS:
    raise RecordError(f"has {len(options)} options, not {OPTIONS}")
  answer = row.get("answer_id") if answers else None
  letter = "" if is_empty(answer) else LETTERS[option_number(answer, "answer_id", OPTIONS)]
  return Example(
    id=f"{video}/{id_field(row, 'question_id')}",
    turn=video_turn(words_field(row, "question")),
    answer=letter,
    media=((Scene(video_path(video)),),),
    options=options,
    fields=row,
  )


def evalai_answers(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
  """The object that EvalAI scores: {video: [{id, answer_id, answer}, …]}."""
  answers: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
  for row in rows:
    video, _, number = row["id"].partition("/")
    identifier = int(number) if number.isdecimal() else number
    option = submitted_option(row, OPTIONS)
    answer = dict(id=identifier, answer_id=option, answer=row["options"][option])
    answers[video].append(answer)
  return dict(answers)


def _lmms_prompt(example: Example, shown: ShownMedia) -> Prompt:
  del shown
  return Prompt((kit.multiple_choice(example),))


def _vcf_prompt(example: Example, shown: ShownMedia) -> Prompt:
  """VideoChat-Flash's prompt; it begins with a newline."""
  del shown
  options = option_lines(example.options, "(", "). ")
  text = f"\nQuestion: {question_text(example)}\n{options}\nOnly give the best option."
  return video_prompt(text)


LMMS = NamedProtocol(
  prompt=_lmms_prompt,
  metric=Choice(word_letter),
  version=published_rules.LMMS_EVAL,
  max_new_tokens=published_rules.ADAPTER_MAX_TOKENS,
  frames=published_rules.LLAVA_FRAMES,
  note=published_rules.FILA_IS_SILENT,
)
VCF = NamedProtocol(
  prompt=_vcf_prompt,
  metric=Choice(word_letter),
  version=published_rules.VIDEOCHAT_FLASH,
  max_new_tokens=published_rules.ADAPTER_MAX_TOKENS,
  frames=published_rules.VIDEOCHAT_FLASH_FRAMES,
)
BENCHMARKS = dict(
  perceptiontest=Benchmark(
    read_examples=read_examples,
    protocols={"lmms-eval": LMMS, "vcf": VCF},
    by=("area", "reasoning"),
    questions=19_140,
    chance=1 / OPTIONS,
    publisher=PUBLISHER,
  ),
  perceptiontest_test=Benchmark(
    read_examples=functools.partial(read_examples, names=TEST_FILES, answers=False),
    protocols={"lmms-eval": LMMS, "vcf": VCF},
    by=(),
    questions=11_528,
    chance=1 / OPTIONS,
    publisher=PUBLISHER,
    submission=evalai_answers,
  ),
)
