# SPDX-License-Identifier: Apache-2.0
"""LVBench: four options about videos of an hour and more (arXiv:2406.08035).

The authors' file has 103 videos and 1,549 questions; VideoChat-Flash's copy lacks two videos and
has 1,519 questions. A question may belong to several capabilities and counts in each.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
import functools
import os
import re
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene
from filax.evals import published_rules
from filax.evals.annotation_files import (
  AnnotationFile,
  Row,
  find_file,
  option_letter,
  options_field,
  parsed_rows,
  read_rows,
)
from filax.evals.annotation_formats import check_fields, json_line_rows
from filax.evals.annotation_values import id_field, is_empty, without_labels, words_field
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, ShownMedia, Source
from filax.evals.media_lookup import MediaLookup, with_extensions
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.mcq_acc import mcq_letter
from filax.evals.metrics.extractors.polish import polished_letter
from filax.evals.metrics.extractors.priority import priority_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.prompt_parts import option_lines, question_text, video_prompt, video_turn

PUBLISHER = "Its authors have it at https://huggingface.co/datasets/THUDM/LVBench."
OPTIONS = 4
QUESTIONS = 1549
QUESTIONS_OF_VCF = 1519
OFFICIAL_FILE = "video_info.meta.jsonl"
VCF_FILE = "lvbench_clean.json"
FOLDERS = ("LVBench", "lvbench")
FILES = (
  OFFICIAL_FILE,
  f"data/{OFFICIAL_FILE}",
  VCF_FILE,
  f"json/{VCF_FILE}",
  "data/train-00000-of-00001.parquet",
)
# VideoChat-Flash's copy is also published in these parts.
PARTS = ("cartoon", "documentary", "live", "selfmedia", "sport", "tv")
VIDEO_FOLDERS = ("videos", "all_videos", "video", "")
VIDEO_OF_OFFICIAL_FILE = ("key", "type", "qa")
OFFICIAL_FIELDS = ("key", "uid", "question", "answer", "question_type")
VCF_FIELDS = ("video", "type", "question", "candidates", "answer", "question_type")
LMMS_FIELDS = ("video_path", "question", "answer")
CAPABILITIES = {
  "key information retrieval": "KIR",
  "event understanding": "EU",
  "summarization": "Sum",
  "entity recognition": "ER",
  "reasoning": "Rea",
  "temporal grounding": "TG",
}
LABEL = ("(", ") ")  # Around the letter of an option.
DIRECTLY = "Answer with the option's letter from the given choices directly."
_INNER_OPTIONS = re.compile(r"\n(?=\([A-D]\) )")


def read_examples(source: Source) -> Iterator[Example]:
  """The questions of the authors' file, of VideoChat-Flash's copy or of lmms-eval's.

  Those of the copies have the id of their video.
  """
  for file in _annotation_files(source):
    videos = MediaLookup(source.root or file.folder)
    if file.path.endswith(".jsonl"):
      rows = _question_rows(file.path)
      parse = functools.partial(_official_example, videos)
    elif file.path.endswith(".json"):
      rows = read_rows(file.path, VCF_FIELDS)
      parse = functools.partial(_vcf_example, videos)
    else:
      rows = read_rows(file.path, LMMS_FIELDS)
      parse = functools.partial(_lmms_example, videos)
    yield from parsed_rows(source, file.path, rows, parse)


def _annotation_files(source: Source) -> Iterator[AnnotationFile]:
  """The file of all questions, or the six parts of VideoChat-Flash's copy."""
  probing = Source(source.data, allow_missing=True)
  if find_file(probing, FOLDERS, FILES, PUBLISHER) is None and any(_parts(probing)):
    yield from filter(None, _parts(source))
    return
  file = find_file(source, FOLDERS, FILES, PUBLISHER)
  if file is not None:
    yield file


def _parts(source: Source) -> Iterator[AnnotationFile | None]:
  """The parts of VideoChat-Flash's copy; None for a missing one."""
  for part in PARTS:
    name = f"lvbench_clean_{part}.json"
    yield find_file(source, FOLDERS, (name, f"json/{name}"), PUBLISHER)


def _question_rows(path: str) -> list[Row]:
  """The questions of the authors' file, which has one line per video."""
  rows: list[Row] = []
  for video in json_line_rows(path, VIDEO_OF_OFFICIAL_FILE):
    questions = video.get("qa")
    for question in questions if isinstance(questions, list) else [None]:
      fields = question if isinstance(question, Mapping) else {}  # Reported as a bad record.
      rows.append({**fields, "key": video.get("key"), "type": video.get("type")})
  check_fields(path, rows, OFFICIAL_FIELDS)
  return rows


def _official_example(videos: MediaLookup, number: int, row: Row) -> Example:
  """The question of the authors' file, whose options are lines of it."""
  del number
  path = videos.path(with_extensions(words_field(row, "key"), VIDEO_FOLDERS))
  return _lettered_example(row, id_field(row, "uid"), path)


def _lmms_example(videos: MediaLookup, number: int, row: Row) -> Example:
  """The question of lmms-eval's copy; its options may be a field."""
  del number
  video = words_field(row, "video_path")
  candidates = [os.path.join(folder, video) for folder in ("", *VIDEO_FOLDERS)]
  identifier = video if is_empty(row.get("uid")) else id_field(row, "uid")
  return _lettered_example(row, identifier, videos.path(candidates))


def _lettered_example(row: Row, identifier: str, path: str) -> Example:
  """The question of a record whose answer is a letter."""
  question, options = _split_options(words_field(row, "question"))
  if row.get("options"):
    options = without_labels(options_field(row, "options"), *LABEL)
  answer = words_field(row, "answer").strip()
  if answer not in tuple(LETTERS[: len(options) or OPTIONS]):
    raise RecordError(f"has the answer {excerpt(answer)}, which is not a letter of its options")
  return Example(
    id=identifier,
    turn=video_turn(question),
    answer=answer,
    media=((Scene(path),),),
    options=options,
    fields=row,
  )


def _split_options(text: str) -> tuple[str, tuple[str, ...]]:
  """A question, and the options that are its last lines.

  The lines are "(A) text" to "(D) text"; the whole text and no options without them.
  """
  question, *lines = _INNER_OPTIONS.split(text)
  options = without_labels(lines, *LABEL)
  are_labelled = len(lines) == OPTIONS and options != tuple(lines)
  return (question, options) if are_labelled else (text, ())


def _vcf_example(videos: MediaLookup, number: int, row: Row) -> Example:
  """The question of VideoChat-Flash's copy, whose answer is a whole candidate."""
  del number
  video = words_field(row, "video")
  candidates = options_field(row, "candidates")
  answer = option_letter(candidates, words_field(row, "answer"))
  if answer is None:
    raise RecordError(f"has the answer {excerpt(row['answer'])}, which is none of its candidates")
  return Example(
    id=video,
    turn=video_turn(words_field(row, "question")),
    answer=answer,
    media=((Scene(_pictures_or_video(videos, video)),),),
    options=without_labels(candidates, *LABEL),
    fields=row,
  )


def _pictures_or_video(videos: MediaLookup, video: str) -> str:
  """The folder of a video's pictures, one a second, else its file."""
  folders = [os.path.join(folder, video) for folder in VIDEO_FOLDERS]
  path = videos.find(folders)
  if path is not None:
    return f"{path}@1fps"
  return videos.path(
    [f"{folder}@1fps" for folder in folders] + with_extensions(video, VIDEO_FOLDERS)
  )


def capability_shares(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """The leaderboard's result.json: the share of right answers by capability.

  Without the questions that were not asked, as the authors' script counts. A capability without
  questions is absent.
  """
  groups = collections.defaultdict(list)
  for row in rows:
    if row.get("score") is None:
      continue
    groups["Overall"].append(row["score"])
    for capability in row["question_type"]:
      groups[CAPABILITIES.get(capability, capability)].append(row["score"])
  return {name: sum(scores) / len(scores) for name, scores in groups.items()}


def _official_prompt(example: Example, shown: ShownMedia) -> Prompt:
  """The question and its options as the authors' file has them."""
  del shown
  return video_prompt(_lettered_question(example))


def _lmms_prompt(example: Example, shown: ShownMedia) -> Prompt:
  del shown
  return video_prompt(f"{_lettered_question(example)}\nAnswer the question with the option letter")


def _lettered_question(example: Example) -> str:
  """The question, and a line "(A) text" for each option."""
  question = question_text(example)
  options = option_lines(example.options, *LABEL)
  return f"{question}\n{options}" if options else question


def _vcf_prompt(example: Example, shown: ShownMedia) -> Prompt:
  """VideoChat-Flash's prompt; it shows two letters of every option."""
  del shown
  labelled = option_lines(example.options, *LABEL).split("\n")
  options = option_lines(labelled, "", ". ") if example.options else ""
  return video_prompt(f"{question_text(example)}\n{options}\n{DIRECTLY}")


LMMS = NamedProtocol(
  prompt=_lmms_prompt,
  metric=Choice(priority_letter),
  version=published_rules.LMMS_EVAL,
  max_new_tokens=16,
  frames=published_rules.LLAVA_FRAMES,
)
VCF = NamedProtocol(
  prompt=_vcf_prompt,
  metric=Choice(mcq_letter, counts="nonempty"),
  version=published_rules.VIDEOCHAT_FLASH,
  max_new_tokens=16,
  questions=QUESTIONS_OF_VCF,
  frames="about 1 frame a second, 64 to 640, a multiple of 8, from pictures of 1 frame a second",
)
OFFICIAL = NamedProtocol(
  prompt=_official_prompt,
  metric=Choice(polished_letter),
  version="LVBench's answer_util.py 1dd4612",
  max_new_tokens=16,
  note="The authors prescribe no prompt: the question and its options are shown as they stand.",
)
BENCHMARKS = dict(
  lvbench=Benchmark(
    read_examples=read_examples,
    protocols={"lmms-eval": LMMS, "vcf": VCF, "official": OFFICIAL},
    by=("question_type", "type"),
    questions=QUESTIONS,
    chance=0.25,
    publisher=PUBLISHER,
    shows_text=False,
    submission=capability_shares,
  )
)
