# SPDX-License-Identifier: Apache-2.0
"""EgoSchema: five options about 3-minute clips of Ego4D (arXiv:2308.09126).

`egoschema` is the subset of 500 questions with public answers. `egoschema_full` has all 5,031,
whose answers the authors keep: it writes the object that their server scores. Published tables of
the LLaVA family are of the full set, whose scores are lower by many points.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
from typing import Any

from data_pipelines.manifest.report import BadRecord, RecordError
from data_pipelines.sample import Scene
from filax.evals import kit, published_rules
from filax.evals.annotation_files import (
  AnnotationFile,
  Row,
  find_file,
  options_field,
  parsed_rows,
  read_rows,
)
from filax.evals.annotation_formats import json_object
from filax.evals.annotation_values import is_empty, option_number, without_labels, words_field
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, ShownMedia, Source
from filax.evals.media_lookup import MediaLookup, with_extensions
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.egoschema import egoschema_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.prompt_parts import video_turn
from filax.evals.submissions import submitted_option

OPTIONS = 5
PUBLISHER = "Its authors have it at https://github.com/egoschema/EgoSchema."
FOLDERS = ("EgoSchema", "egoschema")
QUESTIONS = (
  "questions.json",
  "MC/test-00000-of-00001.parquet",
  "GENERATION/test-00000-of-00001.parquet",
)
ANSWERS = ("subset_answers.json", "Subset/test-00000-of-00001.parquet")
OPTION_FIELDS = tuple(f"option {number}" for number in range(OPTIONS))
OFFICIAL_FIELDS = ("q_uid", "question", *OPTION_FIELDS)
LMMS_FIELDS = ("video_idx", "question", "option")


def read_examples(source: Source) -> Iterator[Example]:
  """The 500 questions whose answers are public."""
  answers = find_file(source, FOLDERS, ANSWERS, PUBLISHER)
  if answers is None:
    return
  if answers.path.endswith(".parquet"):
    yield from _examples(source, answers)
    return
  questions = find_file(source, FOLDERS, QUESTIONS, PUBLISHER)
  if questions is not None:
    yield from _answered_examples(source, questions, answers.path)


def read_full_examples(source: Source) -> Iterator[Example]:
  """All 5,031 questions, without answers."""
  questions = find_file(source, FOLDERS, QUESTIONS, PUBLISHER)
  if questions is not None:
    yield from _examples(source, questions, {})


def _answered_examples(
  source: Source, questions: AnnotationFile, answers_path: str
) -> Iterator[Example]:
  """The questions that the authors' file of answers names."""
  answers = json_object(answers_path)
  unasked = dict(answers)
  for example in _examples(source, questions, answers):
    if example.id in answers:
      del unasked[example.id]
      yield example
  for number, identifier in enumerate(answers, 1):
    if identifier in unasked:
      reason = f"answers {identifier}, which {questions.path} does not ask"
      source.report.bad.append(BadRecord(answers_path, number, reason))


def _examples(
  source: Source, file: AnnotationFile, answers: Mapping[str, Any] | None = None
) -> Iterator[Example]:
  """The questions of a file.

  answers: by q_uid; None for the file's own.
  """
  videos = MediaLookup(source.root or file.folder)
  if file.path.endswith(".parquet"):
    rows = list(map(_official_row, read_rows(file.path, LMMS_FIELDS)))
  else:
    rows = read_rows(file.path, OFFICIAL_FIELDS)
  yield from parsed_rows(source, file.path, rows, functools.partial(_example, videos, answers))


def _official_row(row: Row) -> Row:
  """A record of lmms-eval's copy with the authors' fields besides its own."""
  try:
    options = without_labels(options_field(row, "option"), "", ". ")
  except RecordError:
    options = ()  # The record is reported as bad: it has no "option 0".
  return {**row, "q_uid": row["video_idx"], **dict(zip(OPTION_FIELDS, options, strict=False))}


def _example(
  videos: MediaLookup, answers: Mapping[str, Any] | None, number: int, row: Row
) -> Example:
  """The question of a record. Raises RecordError."""
  del number
  identifier = words_field(row, "q_uid")
  options = []
  for name in OPTION_FIELDS:
    options.append(words_field(row, name))
  answer = row.get("answer") if answers is None else answers.get(identifier)
  letter = "" if is_empty(answer) else LETTERS[option_number(answer, "answer", OPTIONS)]
  path = videos.path(with_extensions(identifier, ("videos", "video", "")))
  return Example(
    id=identifier,
    turn=video_turn(words_field(row, "question")),
    answer=letter,
    media=((Scene(path),),),
    options=tuple(options),
    fields=row,
  )


def server_answers(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
  """The object that the authors' server scores: {q_uid: 0 to 4}."""
  return {row["id"]: submitted_option(row, OPTIONS) for row in rows}


def _lmms_prompt(example: Example, shown: ShownMedia) -> Prompt:
  del shown
  return Prompt((kit.multiple_choice(example),))


LMMS = NamedProtocol(
  prompt=_lmms_prompt,
  metric=Choice(egoschema_letter),
  version=published_rules.LMMS_EVAL,
  max_new_tokens=16,
  frames=published_rules.LLAVA_FRAMES,
  note=published_rules.FILA_IS_SILENT,
)
BENCHMARKS = dict(
  egoschema=Benchmark(
    read_examples=read_examples,
    protocols={"lmms-eval": LMMS},
    by=(),
    questions=500,
    chance=0.2,
    publisher=PUBLISHER,
    shows_text=False,
  ),
  egoschema_full=Benchmark(
    read_examples=read_full_examples,
    protocols={"lmms-eval": LMMS},
    by=(),
    questions=5031,
    chance=0.2,
    publisher=PUBLISHER,
    shows_text=False,
    submission=server_answers,
  ),
)
