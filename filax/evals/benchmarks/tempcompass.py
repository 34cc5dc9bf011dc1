# SPDX-License-Identifier: Apache-2.0
"""TempCompass: action, direction, speed, order and change of attributes (arXiv:2403.00476).

Multiple choice, yes/no and caption matching, scored by the published rules alone: an answer that
fits no rule is wrong, where the authors ask a judge. Captioning needs the judge and is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
from typing import Any

from data_pipelines.sample import Scene
from filax.evals import published_rules
from filax.evals.annotation_files import Row, find_file, parsed_rows, read_rows
from filax.evals.annotation_formats import check_fields, json_object
from filax.evals.annotation_values import id_field, words_field
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
from filax.evals.metrics.tempcompass import CAPTION_MATCHING, MULTI_CHOICE, YES_NO, TempCompass
from filax.evals.prompt_parts import question_text, video_prompt, video_turn

PUBLISHER = "Its authors have it at https://github.com/llyx97/TempCompass (questions)."
FOLDERS = ("TempCompass", "tempcompass")
REQUESTS = {
  MULTI_CHOICE: "\nPlease directly give the best option:",
  YES_NO: "\nPlease answer yes or no:",
  CAPTION_MATCHING: "\nPlease directly give the best option:",
}
FIELDS = ("video_id", "dim", "question", "answer")
# Of multiple choice, 899 questions have 3 options, 675 have 4 and 6 have 2; half of the answers of
# the 2,453 and 1,503 questions of the other tasks are right by guessing.
CHANCE = (899 / 3 + 675 / 4 + 6 / 2 + (2453 + 1503) / 2) / 5536


def read_examples(source: Source) -> Iterator[Example]:
  """The questions of the three tasks that need no judge."""
  for task in REQUESTS:
    names = (f"questions/{task}.json", f"{task}.json", f"{task}/test-00000-of-00001.parquet")
    file = find_file(source, FOLDERS, names, PUBLISHER)
    if file is None:
      continue
    read = read_rows if file.path.endswith(".parquet") else _official_rows
    parse = functools.partial(_example, MediaLookup(source.root or file.folder), task)
    rows = read(file.path, FIELDS)
    yield from parsed_rows(source, file.path, rows, parse)


def _official_rows(path: str, fields: Sequence[str]) -> list[Row]:
  """The questions of the authors' file: {video: {dim: [{question, answer}]}}."""
  rows: list[Row] = []
  for video, dims in json_object(path).items():
    if not isinstance(dims, Mapping):
      raise BadAnnotation(f"{path} has {video} without dims. It may be another file of this name.")
    for dim, questions in dims.items():
      rows += _dim_rows(video, dim, questions)
  check_fields(path, rows, fields)
  return rows


def _dim_rows(video: str, dim: str, questions: Any) -> list[Row]:
  """The records of a dim.

  What is not a record gets no fields.
  """
  rows: list[Row] = []
  for question in questions if isinstance(questions, list) else [None]:
    fields = question if isinstance(question, Mapping) else {}
    rows.append({**fields, "video_id": video, "dim": dim})
  return rows


def _example(videos: MediaLookup, task: str, number: int, row: Row) -> Example:
  """The question of a record. Raises RecordError."""
  del number
  video = id_field(row, "video_id")
  path = videos.path(with_extensions(video, ("videos", "")))
  return Example(
    id=f"{task}/{video}/{words_field(row, 'dim')}",
    turn=video_turn(words_field(row, "question")),
    answer=words_field(row, "answer"),
    media=((Scene(path),),),
    fields={**row, "task": task},
  )


def _prompt(example: Example, shown: ShownMedia) -> Prompt:
  """The question, whose options are its lines, and the task's request."""
  del shown
  return video_prompt(question_text(example) + REQUESTS[example.fields["task"]])


RULE_BASED = "Rule-based, without a judge. Captioning, which needs one, is left out."
LMMS = NamedProtocol(
  prompt=_prompt,
  metric=TempCompass(),
  version=published_rules.LMMS_EVAL,
  max_new_tokens=published_rules.ADAPTER_MAX_TOKENS,
  frames=published_rules.LLAVA_FRAMES,
  note=RULE_BASED,
  deviation="lmms-eval asks a judge about answers that fit no rule; here they are wrong.",
)
OFFICIAL = NamedProtocol(
  prompt=_prompt,
  metric=TempCompass(),
  version="TempCompass's eval_*.py with --disable_llm",
  max_new_tokens=published_rules.ADAPTER_MAX_TOKENS,
  note=RULE_BASED,
)
BENCHMARKS = dict(
  tempcompass=Benchmark(
    read_examples=read_examples,
    protocols={"lmms-eval": LMMS, "official": OFFICIAL},
    by=("task", "dim"),
    questions=1580 + 2453 + 1503,
    chance=CHANCE,
    publisher=PUBLISHER,
    shows_text=False,
  )
)
