# SPDX-License-Identifier: Apache-2.0
"""EgoSchema: five options about 3-minute clips of Ego4D (arXiv:2308.09126).

`egoschema` is the subset of 500 questions with public answers. `egoschema_full` has all 5,031; their
answers are kept by the authors, so it writes the object that their server scores. Published tables
of the LLaVA family are of the full set, whose scores are lower by many points.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
import zlib

from data_pipelines.manifest.reader import BadRecord, RecordError
from data_pipelines.text import templates
from filax.evals import kit, published_rules
from filax.evals.annotation_files import (
  Row,
  check_fields,
  find_files,
  has_value,
  index_field,
  json_object,
  parsed_rows,
  table_rows,
  text_field,
  texts_field,
)
from filax.evals.benchmark_media import VideoFolders
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, ShownMedia, Source
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.egoschema import egoschema_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.question_text import without_labels

OPTIONS = 5
PUBLISHER = "Its authors have it at https://github.com/egoschema/EgoSchema."
QUESTIONS = ("questions.json", "MC/test-*.parquet", "GENERATION/test-*.parquet")
ANSWERS = ("subset_answers.json", "Subset/test-*.parquet")
OPTION_FIELDS = tuple(f"option {number}" for number in range(OPTIONS))
OFFICIAL_FIELDS = ("q_uid", "question", *OPTION_FIELDS)
LMMS_FIELDS = ("video_idx", "question", "option")


def read_examples(source: Source) -> Iterator[Example]:
  """The 500 questions whose answers are public."""
  answer_paths = find_files(source, ANSWERS, PUBLISHER)
  for path in answer_paths:
    if path.endswith(".json"):
      yield from _official_subset(source, path, json_object(path))
    else:
      yield from _file_examples(source, path, _own_answer)


def _official_subset(source: Source, path: str, answers: Mapping[str, Any]) -> Iterator[Example]:
  """The questions that the authors' file of answers names."""
  unasked = dict(answers)

  def listed_answer(row: Row) -> str:
    return LETTERS[index_field({"answer": answers[row["q_uid"]]}, "answer", OPTIONS)]

  for questions in find_files(source, QUESTIONS, PUBLISHER):
    for example in _file_examples(source, questions, listed_answer, answers):
      unasked.pop(example.id, None)
      yield example
  for number, identifier in enumerate(answers, 1):
    if identifier in unasked:
      reason = f"answers {identifier}, which no file of questions has"
      source.report.bad.append(BadRecord(path, number, reason))


def _full_examples(source: Source) -> Iterator[Example]:
  """All 5,031 questions, without answers."""
  for path in find_files(source, QUESTIONS, PUBLISHER):
    yield from _file_examples(source, path, _no_answer)


def _file_examples(
  source: Source,
  path: str,
  answer: Callable[[Row], str],
  only: Mapping[str, Any] | None = None,
) -> Iterator[Example]:
  """The examples of a file; `only`: of these ids."""
  rows = table_rows(path)
  if rows and "video_idx" in rows[0]:
    check_fields(path, rows, LMMS_FIELDS)
    rows = list(map(_official_row, rows))
  else:
    check_fields(path, rows, OFFICIAL_FIELDS)
  if only is not None:
    rows = [row for row in rows if row.get("q_uid") in only]
  videos = VideoFolders(source, ("videos", ""))

  def parse(row: Row) -> Example:
    identifier = text_field(row, "q_uid")
    options = tuple(text_field(row, name) for name in OPTION_FIELDS)
    return Example(
      id=identifier,
      turn=templates.question(text_field(row, "question"))[0],
      answer=answer(row),
      media=(videos.timeline(identifier),),
      options=options,
      fields=row,
    )

  yield from parsed_rows(source, path, rows, parse)


def _official_row(row: Row) -> Row:
  """A record of lmms-eval's copy with the authors' fields.

  A record without five options keeps its own fields, and is reported as bad.
  """
  try:
    options = without_labels(texts_field(row, "option"))
  except RecordError:
    return row
  named = dict(zip(OPTION_FIELDS, options, strict=False))
  return {**row, "q_uid": row.get("video_idx"), **named}


def _own_answer(row: Row) -> str:
  return LETTERS[index_field(row, "answer", OPTIONS)] if has_value(row, "answer") else ""


def _no_answer(row: Row) -> str:
  del row
  return ""


def submission(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
  """The object that the authors' server scores: {q_uid: 0 to 4}.

  A question without an understood answer gets a guess that depends on its id alone, since the
  server refuses other numbers.
  """
  numbers = {}
  for row in rows:
    letter = row.get("choice") or ""
    options = LETTERS[:OPTIONS]
    guess = zlib.crc32(row["id"].encode()) % OPTIONS
    numbers[row["id"]] = options.index(letter) if letter and letter in options else guess
  return numbers


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
    read_examples=_full_examples,
    protocols={"lmms-eval": LMMS},
    by=(),
    questions=5031,
    chance=0.2,
    publisher=PUBLISHER,
    shows_text=False,
    submission=submission,
  ),
)
