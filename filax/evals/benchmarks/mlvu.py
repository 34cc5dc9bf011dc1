# SPDX-License-Identifier: Apache-2.0
"""MLVU: 2,175 questions of the dev set (7 tasks, 4 options), 502 of the test set (9, 6).

The dev set is json/1_plotQA.json to json/7_topic_reasoning.json with videos in
video/<name of the file>/, or lmms-eval's copy mlvu/test-00000-of-00001.parquet, whose videos are in
one folder. The test set is test-ground-truth/test_mcq_gt.json with videos in video/. M-Avg is the
unweighted mean over tasks. Two dev questions have answers that are not an option; they stay in the
denominator.
"""

from collections.abc import Iterator
import functools
import os

from data_pipelines.sample import Scene
from filax.evals import published_rules
from filax.evals.annotation_files import (
  Row,
  find_file,
  option_letter,
  options_field,
  parsed_rows,
  read_rows,
  text_field,
)
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, ShownMedia, Source
from filax.evals.media_lookup import VIDEO_EXTENSIONS, MediaLookup, with_extensions
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.before_bracket import letter_before_bracket
from filax.evals.metrics.extractors.mcq_acc import mcq_letter
from filax.evals.metrics.extractors.priority import priority_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.prompt_parts import option_lines, video_prompt, video_turn

PUBLISHER = (
  "MLVU's authors have it at https://huggingface.co/datasets/MLVU/MVLU (dev: json/, video/); "
  "lmms-eval's copy is https://huggingface.co/datasets/sy1998/MLVU_dev."
)
TEST_PUBLISHER = (
  "MLVU's authors have it at https://huggingface.co/datasets/MLVU/MLVU_Test "
  "(test-ground-truth/, video/)."
)
FOLDERS = ("MLVU", "MLVU/MLVU", "MVLU", "MLVU_MC", "mlvu", "MLVU_dev")
TEST_FOLDERS = ("MLVU_Test", "mlvu_test")
# File of a task -> the name of the task; the files 8 and 9 ask for free texts.
DEV_FILES = {
  "1_plotQA": "plotQA",
  "2_needle": "needle",
  "3_ego": "ego",
  "4_count": "count",
  "5_order": "order",
  "6_anomaly_reco": "anomaly_reco",
  "7_topic_reasoning": "topic_reasoning",
}
FIRST_FILES = ("json/1_plotQA.json", "1_plotQA.json")
COPY = ("mlvu/test-00000-of-00001.parquet", "test-00000-of-00001.parquet")
TEST_FILES = ("test-ground-truth/test_mcq_gt.json", "test_mcq_gt.json")
FIELDS = ("video", "question", "candidates", "answer", "question_type")
COPY_FIELDS = ("video_name", "question", "candidates", "answer", "task_type")
NO_LETTER = "@"  # The authors' letter of an answer that is not an option.
OFFICIAL_SYSTEM = (
  "Carefully watch this video and pay attention to every detail. Based on your observations, "
  "select the best option that accurately addresses the question."
)
BEST = "Only give the best option."


def read_examples(source: Source) -> Iterator[Example]:
  """The dev set; raises MissingAnnotation and BadAnnotation."""
  if _is_copy(source.data):
    yield from _copied_examples(source)
    return
  for name, task in DEV_FILES.items():
    file = find_file(source, FOLDERS, (f"json/{name}.json", f"{name}.json"), PUBLISHER)
    if file is not None:
      lookup = MediaLookup(source.root or file.folder)
      folders = (f"video/{name}", f"video/{task}", name, task, f"videos/{name}", "video", "")
      parse = functools.partial(_example, task, lookup, folders)
      yield from parsed_rows(source, file.path, read_rows(file.path, FIELDS), parse)


def read_test_examples(source: Source) -> Iterator[Example]:
  """The test set; raises MissingAnnotation and BadAnnotation."""
  file = find_file(source, TEST_FOLDERS, TEST_FILES, TEST_PUBLISHER)
  if file is not None:
    lookup = MediaLookup(source.root or file.folder)
    parse = functools.partial(_example, "", lookup, ("video", "videos", ""))
    yield from parsed_rows(source, file.path, read_rows(file.path, FIELDS), parse)


def _is_copy(data: str) -> bool:
  """Whether a folder has lmms-eval's copy and none of the authors' files."""
  places = [os.path.join(data, folder) for folder in ("", *FOLDERS)]
  authors = [f"{place}/{name}" for place in places for name in FIRST_FILES]
  if any(map(os.path.exists, authors)):
    return False
  copies = [f"{place}/{name}" for place in places for name in COPY]
  return any(map(os.path.exists, copies))


def _copied_examples(source: Source) -> Iterator[Example]:
  """The questions of lmms-eval's copy."""
  file = find_file(source, FOLDERS, COPY, PUBLISHER)
  if file is not None:
    lookup = MediaLookup(source.root or file.folder)
    parse = functools.partial(_copied_example, lookup)
    yield from parsed_rows(source, file.path, read_rows(file.path, COPY_FIELDS), parse)


def _example(
  task: str, lookup: MediaLookup, folders: tuple[str, ...], number: int, row: Row
) -> Example:
  """The question of a row. Raises RecordError.

  task: "" for that of the row.
  """
  options = options_field(row, "candidates")
  question = text_field(row, "question")
  answer = text_field(row, "answer")
  task = task or text_field(row, "question_type")
  video = text_field(row, "video")
  path = lookup.path([os.path.join(folder, video) for folder in folders])
  listed = f"{question}\n{option_lines(options, '(', ') ')}"
  return Example(
    id=str(row.get("question_id") or f"{task}/{number}"),
    turn=video_turn(question),
    answer=option_letter(options, answer) or NO_LETTER,
    media=((Scene(path),),),
    options=options,
    fields=dict(row, task=task, listed_question=listed),
  )


def _copied_example(lookup: MediaLookup, number: int, row: Row) -> Example:
  """The question of a row of lmms-eval's copy. Raises RecordError.

  Its questions list their options, and some videos are named without .mp4.
  """
  options = options_field(row, "candidates")
  listed = text_field(row, "question")
  question, _, _ = listed.partition("\n(A)")
  answer = text_field(row, "answer").strip()
  task = text_field(row, "task_type")
  stem, extension = os.path.splitext(text_field(row, "video_name"))
  if extension not in VIDEO_EXTENSIONS:
    stem += extension
  path = lookup.path(with_extensions(stem, ("", "video", "videos", os.pardir)))
  return Example(
    id=f"{task}/{number}",
    turn=video_turn(question),
    answer=answer if answer in tuple(LETTERS[: len(options)]) else NO_LETTER,
    media=((Scene(path),),),
    options=options,
    fields=dict(row, question=question, task=task, listed_question=listed),
  )


def _lines(example: Example) -> str:
  return option_lines(example.options, "(", ") ")


def _lmms_prompt(example: Example, media: ShownMedia) -> Prompt:
  """lmms-eval's mlvu_dev; the opening bracket is the user's."""
  del media
  return video_prompt(f"{example.fields['listed_question']}\n{BEST}\nBest option: (")


def _vcf_prompt(example: Example, media: ShownMedia) -> Prompt:
  """VideoChat-Flash's mlvu_mc."""
  del media
  return video_prompt(
    f"Question:{example.fields['question']}\nOption:\n{_lines(example)}\n"
    "Answer with the option's letter from the given choices directly."
  )


def _official_prompt(example: Example, media: ShownMedia) -> Prompt:
  """MLVU's authors; the answer is begun for the model."""
  del media
  question = f"Question: {example.fields['question']}\nOptions:\n{_lines(example)}"
  return video_prompt(f"{question}\n{BEST}", system=OFFICIAL_SYSTEM, answer_start="Best Option: (")


_OUTSIDE = "Two questions have answers that are none of their options and can only be wrong."
OFFICIAL = NamedProtocol(
  prompt=_official_prompt,
  metric=Choice(letter_before_bracket),
  version="MLVU (authors' scripts)",
  max_new_tokens=100,
  frames="the model's own; 16 in the authors' script for VideoChat2",
  macro=True,
  note="M-Avg, the mean of the tasks. The authors' test script samples at temperature 0.1.",
)
PROTOCOLS = {
  "lmms-eval": NamedProtocol(
    prompt=_lmms_prompt,
    metric=Choice(priority_letter),
    version="lmms-eval 0.7.3, mlvu_dev",
    max_new_tokens=16,
    frames=published_rules.LLAVA_FRAMES,
    macro=True,
    note=f"M-Avg, the mean of the tasks. {_OUTSIDE} FiLA-Video's paper is silent on its prompts.",
  ),
  "vcf": NamedProtocol(
    prompt=_vcf_prompt,
    metric=Choice(mcq_letter, counts="nonempty"),
    version=published_rules.VIDEOCHAT_FLASH,
    max_new_tokens=16,
    frames=published_rules.VIDEOCHAT_FLASH_FRAMES,
    note=(
      "The mean of questions, which its harness prints; whether its 74.6 is that or M-Avg is not "
      f"known, so both are given. Empty answers leave the denominator. {_OUTSIDE}"
    ),
  ),
  "official": OFFICIAL,
}
BENCHMARKS = dict(
  mlvu=Benchmark(
    read_examples=read_examples,
    protocols=PROTOCOLS,
    by=("task",),
    macro="task",
    questions=2175,
    chance=0.25,
    publisher=PUBLISHER,
  ),
  mlvu_test=Benchmark(
    read_examples=read_test_examples,
    protocols=dict(official=OFFICIAL),
    by=("task",),
    macro="task",
    questions=502,
    chance=1 / 6,
    publisher=TEST_PUBLISHER,
  ),
)
