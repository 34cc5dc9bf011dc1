# SPDX-License-Identifier: Apache-2.0
"""LVBench: four options about videos of an hour and more (arXiv:2406.08035).

The authors' file has 103 videos and 1,549 questions; VideoChat-Flash's copy lacks two videos and has
1,519 questions. A question may belong to several capabilities and counts in each.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import re
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.reader import RecordError
from data_pipelines.sample import Timeline
from data_pipelines.text import templates
from filax.evals import published_rules
from filax.evals.annotation_files import (
  Row,
  check_fields,
  existing_files,
  find_files,
  numbered_ids,
  parsed_rows,
  table_rows,
  text_field,
  texts_field,
)
from filax.evals.benchmark_media import VideoFolders
from filax.evals.kit import (
  Benchmark,
  Example,
  NamedProtocol,
  Prompt,
  ShownMedia,
  Source,
)
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.mcq_acc import mcq_letter
from filax.evals.metrics.extractors.polish import polished_letter
from filax.evals.metrics.extractors.priority import priority_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.question_text import (
  ANSWER_WITH_LETTER,
  option_lines,
  user_prompt,
  without_labels,
)

PUBLISHER = "Its authors have it at https://huggingface.co/datasets/THUDM/LVBench."
QUESTIONS = 1549
QUESTIONS_OF_VCF = 1519
OFFICIAL_FILE = "video_info.meta.jsonl"
VCF_FILE = "lvbench_clean.json"
FILES = (
  OFFICIAL_FILE,
  f"data/{OFFICIAL_FILE}",
  VCF_FILE,
  f"json/{VCF_FILE}",
  "data/train-*.parquet",
)
# VideoChat-Flash's copy is also published in these parts.
PARTS = ("cartoon", "documentary", "live", "selfmedia", "sport", "tv")
OFFICIAL_FIELDS = ("key", "type", "qa")
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
LABEL = "({}) "
_INNER_OPTIONS = re.compile(r"\n(?=\([A-D]\) )")


def read_examples(source: Source) -> Iterator[Example]:
  """The questions of the authors' file, of VideoChat-Flash's copy or of lmms-eval's."""
  yield from numbered_ids(_all_examples(source))


def _all_examples(source: Source) -> Iterator[Example]:
  videos = VideoFolders(source, ("videos", "all_videos", "video", ""))
  for path in _annotation_paths(source):
    rows = table_rows(path)
    fields = OFFICIAL_FIELDS
    parse: Callable[[Row, VideoFolders], Example] = _official_example
    if rows and "candidates" in rows[0]:
      fields = VCF_FIELDS
      parse = _vcf_example
    elif rows and "video_path" in rows[0]:
      fields = LMMS_FIELDS
      parse = _lmms_example
    check_fields(path, rows, fields)
    if fields is OFFICIAL_FIELDS:
      rows = _question_rows(rows)
    yield from parsed_rows(source, path, rows, functools.partial(parse, videos=videos))


def _annotation_paths(source: Source) -> Iterator[str]:
  """The file of all questions, or the six parts of VideoChat-Flash's copy."""
  parts = []
  for part in PARTS:
    name = f"lvbench_clean_{part}.json"
    parts.append((name, f"json/{name}"))
  has_part = any(existing_files(source, names) for names in parts)
  if existing_files(source, FILES) or not has_part:
    yield from find_files(source, FILES, PUBLISHER)
    return
  for names in parts:
    yield from find_files(source, names, PUBLISHER)


def _question_rows(videos: Sequence[Row]) -> list[Row]:
  """A record a question, from the authors' records of videos."""
  rows: list[Row] = []
  for video in videos:
    questions = video.get("qa")
    if not isinstance(questions, list):
      questions = [{}]  # Reported as a bad record.
    for question in questions:
      fields = question if isinstance(question, Mapping) else {}
      rows.append({**fields, "key": video.get("key"), "type": video.get("type")})
  return rows


def _official_example(row: Row, videos: VideoFolders) -> Example:
  """An example of the authors' file, whose options are lines of the question."""
  video = text_field(row, "key")
  return _lettered_example(row, text_field(row, "uid"), videos.timeline(video))


def _lmms_example(row: Row, videos: VideoFolders) -> Example:
  """An example of lmms-eval's copy; its options may be a field."""
  video = text_field(row, "video_path")
  identifier = row.get("uid") or video.removesuffix(".mp4")
  return _lettered_example(row, str(identifier), videos.timeline(video))


def _lettered_example(row: Row, identifier: str, timeline: Timeline) -> Example:
  """An example whose answer is a letter."""
  question, *options = _INNER_OPTIONS.split(text_field(row, "question"))
  texts = without_labels(options, LABEL)
  if row.get("options"):
    texts = without_labels(texts_field(row, "options"), LABEL)
  answer = text_field(row, "answer").strip()
  if answer not in LETTERS[: len(texts) or 4]:
    raise RecordError(f"has the answer {excerpt(answer)}, which is no letter of an option")
  return Example(
    id=identifier,
    turn=templates.question(question)[0],
    answer=answer,
    media=(timeline,),
    options=texts,
    fields=row,
  )


def _vcf_example(row: Row, videos: VideoFolders) -> Example:
  """An example of VideoChat-Flash's copy, whose answer is a whole candidate."""
  video = text_field(row, "video")
  candidates = texts_field(row, "candidates")
  answer = text_field(row, "answer")
  if answer not in candidates:
    raise RecordError(f"has the answer {excerpt(answer)}, which is none of its candidates")
  return Example(
    id=video,
    turn=templates.question(text_field(row, "question"))[0],
    answer=LETTERS[candidates.index(answer)],
    media=(videos.timeline(f"{video}@1fps", video),),
    options=without_labels(candidates, LABEL),
    fields=row,
  )


def submission(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
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
  return user_prompt(example, _lettered_question(example))


def _lmms_prompt(example: Example, shown: ShownMedia) -> Prompt:
  del shown
  question = _lettered_question(example)
  return user_prompt(example, f"{question}\nAnswer the question with the option letter")


def _lettered_question(example: Example) -> str:
  """The question, and a line "(A) text" for each option."""
  question = example.turn.text.removeprefix("\n")
  if not example.options:
    return question
  return f"{question}\n{option_lines(example.options, LABEL)}"


def _vcf_prompt(example: Example, shown: ShownMedia) -> Prompt:
  """VideoChat-Flash's prompt; it shows two letters of every option."""
  del shown
  question = example.turn.text.removeprefix("\n")
  options = []
  for letter, option in zip(LETTERS, example.options, strict=False):
    options.append(LABEL.format(letter) + option)
  return user_prompt(example, f"{question}\n{option_lines(options)}\n{ANSWER_WITH_LETTER}")


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
    submission=submission,
  )
)
