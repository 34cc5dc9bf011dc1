# SPDX-License-Identifier: Apache-2.0
"""LongVideoBench: 1,337 questions of the validation set, 5,341 of the test set.

The files:

  validation  lvb_val.json or validation-00000-of-00001.parquet
  test        lvb_test_wo_gt.json or test-00000-of-00001.parquet
  videos      videos/<video_path>
  subtitles   subtitles/<subtitle_path>

The publisher keeps the answers of the test set. A submission to it is {question id: answer}.

VideoChat-Flash's numbers are with subtitles, those of lmms-eval without.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import os
from typing import Any

import numpy as np

from data_pipelines.manifest.report import RecordError
from data_pipelines.media.probe import probe
from data_pipelines.sample import Scene, Turn
from filax.evals import published_rules, subtitles
from filax.evals.annotation_files import (
  Row,
  find_file,
  number_field,
  options_field,
  parsed_rows,
  read_rows,
  text_field,
)
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, ShownMedia, Source
from filax.evals.media_lookup import MediaLookup
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.mmmu import mmmu_letter
from filax.evals.metrics.extractors.prefix_letter import prefix_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.prompt_parts import option_lines, video_prompt, video_turn

PUBLISHER = (
  "LongVideoBench's authors have it at "
  "https://huggingface.co/datasets/longvideobench/LongVideoBench: the JSON and parquet files, "
  "videos.tar.part.* (to videos/), subtitles.tar (to subtitles/)."
)
FOLDERS = ("LongVideoBench", "longvideobench")
VALIDATION = ("lvb_val.json", "validation-00000-of-00001.parquet")
TEST = ("lvb_test_wo_gt.json", "test-00000-of-00001.parquet")
FIELDS = (
  *("id", "video_id", "video_path", "subtitle_path", "question", "duration", "duration_group"),
  *("question_category", "topic_category", "starting_timestamp_for_subtitles"),
)
OPTION_COLUMNS = tuple(f"option{number}" for number in range(5))  # Columns of the parquet files.
NO_OPTION = "N/A"  # Fills the columns of questions with fewer options.
HIDDEN = -1  # The right choice in the test set.
DIRECTLY = "Answer with the option's letter from the given choices directly."
VCF_FRAMES = 512  # Times at which VideoChat-Flash looks for subtitles.
LMMS_FRAMES = 16


def read_examples(names: Sequence[str], source: Source) -> Iterator[Example]:
  """The questions of a split; raises MissingAnnotation and BadAnnotation."""
  file = find_file(source, FOLDERS, names, PUBLISHER)
  if file is not None:
    options = OPTION_COLUMNS if file.path.endswith(".parquet") else ("candidates",)
    rows = read_rows(file.path, (*FIELDS, *options))
    lookup = MediaLookup(source.root or file.folder)
    parse = functools.partial(_example, lookup)
    yield from parsed_rows(source, file.path, rows, parse)


def _example(lookup: MediaLookup, number: int, row: Row) -> Example:
  """The question of a row. Raises RecordError."""
  del number
  for name in ("duration", "starting_timestamp_for_subtitles"):
    number_field(row, name)
  options = _options(row)
  video = text_field(row, "video_path")
  subtitle = text_field(row, "subtitle_path")
  path = lookup.path((f"videos/{video}", f"video/{video}", video))
  fields = dict(row, subtitle_file=lookup.path((f"subtitles/{subtitle}", subtitle)))
  return Example(
    id=text_field(row, "id"),
    turn=video_turn(text_field(row, "question")),
    answer=_answer(row, options),
    media=((Scene(path),),),
    options=options,
    fields=fields,
  )


def _options(row: Row) -> tuple[str, ...]:
  """The options of a JSON record, or of an unpadded parquet row."""
  if "candidates" in row:
    return options_field(row, "candidates")
  columns = [row.get(name) for name in OPTION_COLUMNS]
  options = [option for option in columns if option not in (None, NO_OPTION)]
  return options_field(dict(options=options), "options")


def _answer(row: Row, options: Sequence[str]) -> str:
  """The letter of the right choice; "" if the publisher keeps it."""
  choice = row.get("correct_choice")
  if choice is None or choice == HIDDEN:
    return ""
  if not isinstance(choice, int) or not 0 <= choice < len(options):
    raise RecordError(f"has the correct_choice {choice!r} of {len(options)} options")
  return LETTERS[choice]


def _plain_question(example: Example) -> str:
  """The question, its options and the request, as lmms-eval writes them."""
  lines = option_lines(example.options, "", ". ")
  return f"{example.fields['question']}\n{lines}\n{DIRECTLY}\n"


def _entries(example: Example) -> subtitles.Subtitles:
  """The subtitles of the video.

  Raises ValueError for a missing or bad file.
  """
  path = example.fields["subtitle_file"]
  if not os.path.exists(path):
    raise ValueError(f"{path} is missing. {PUBLISHER}")
  return subtitles.timed_entries(
    path,
    example.fields["duration"],
    example.fields["starting_timestamp_for_subtitles"],
  )


def _subtitle_files(example: Example) -> tuple[str]:
  return (example.fields["subtitle_file"],)


def _kept_lines(example: Example, times: np.ndarray) -> str:
  return "\n".join(subtitles.kept_entries(_entries(example), times))


def _lmms_prompt(example: Example, media: ShownMedia) -> Prompt:
  """lmms-eval's longvideobench_val_v, without subtitles."""
  del media
  return video_prompt(_plain_question(example))


def _single_frames(example: Example) -> Example:
  """The example with the frames of longvideobench_val_i as pictures.

  Frame i of F is number int(int(duration * fps) / F) * i of the file.
  """
  ((video,),) = example.media
  duration = example.fields["duration"]
  facts = probe(video.media)
  seconds = _picture_times(example)
  if facts.frames:
    step = int(int(duration * facts.fps) / len(seconds))
    seconds = facts.times(step * np.arange(len(seconds)))
  media = []
  for second in seconds.tolist():
    media.append((Scene(video.media, kind="image", t0=second, t1=second),))
  return dataclasses.replace(example, media=tuple(media))


def _lmms_subtitle_prompt(example: Example, media: ShownMedia) -> Prompt:
  """lmms-eval's longvideobench_val_i: frames and lines, a line each."""
  del media
  parts: list[int | str] = []
  text = ""
  for element in subtitles.interleaved_entries(_entries(example), _picture_times(example)):
    if isinstance(element, int):
      parts += [text, element] if text else [element]
      text = "\n"
    else:
      text += f"{element}\n"
  return Prompt((Turn("user", (*parts, text + _plain_question(example))),))


def _picture_times(example: Example) -> np.ndarray:
  """The nominal seconds f64 [F] of the pictures, at least one."""
  times = subtitles.nominal_times(example.fields["duration"], LMMS_FRAMES)
  return times if len(times) else np.zeros(1)


def _vcf_prompt(example: Example, media: ShownMedia) -> Prompt:
  """VideoChat-Flash, always with subtitles."""
  del media
  times = subtitles.nominal_times(example.fields["duration"], VCF_FRAMES)
  lines = option_lines(example.options, "(", "). ")
  return video_prompt(
    f" This video's subtitles are listed below: \n{_kept_lines(example, times)}.\n Select the best "
    "answer to the following multiple-choice question based on the video and the subtitles. "
    "Respond with only the letter of the correct option.\n"
    f"Question: {example.fields['question']}\n{lines}\n{DIRECTLY}\n"
  )


def _official_prompt(example: Example, media: ShownMedia) -> Prompt:
  """The authors' list of elements, a line each, behind the video."""
  elements = subtitles.kept_entries(_entries(example), media.times)
  elements.append(f"Question: {example.fields['question']}")
  elements.append(option_lines(example.options, "", ". "))
  elements.append(DIRECTLY)
  return video_prompt("\n".join(elements))


def submission(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
  """Question id -> generated answer, as the leaderboard takes it."""
  return {row["id"]: row["answer"] for row in rows}


_GUESSES = "Where the harness draws a letter for an unreadable answer, the answer is wrong here."
_BEHIND = "Subtitles stand behind the video; the published protocol puts each between its frames."
PROTOCOLS = {
  "lmms-eval": NamedProtocol(
    prompt=_lmms_prompt,
    metric=Choice(prefix_letter),
    version="lmms-eval 0.7.3, longvideobench_val_v",
    max_new_tokens=32,
    frames=published_rules.LLAVA_FRAMES,
    note=f"Without subtitles. {_GUESSES} FiLA-Video's paper is silent on its prompts.",
  ),
  "lmms-eval-subtitles": NamedProtocol(
    prompt=_lmms_subtitle_prompt,
    metric=Choice(prefix_letter),
    version="lmms-eval 0.7.3, longvideobench_val_i",
    max_new_tokens=32,
    frames="16 pictures, each int(int(duration * fps) / 16) frames after the last",
    note=f"Pictures with the subtitles at their nominal times between them. {_GUESSES}",
    files=_subtitle_files,
    arrange=_single_frames,
  ),
  "vcf": NamedProtocol(
    prompt=_vcf_prompt,
    metric=Choice(mmmu_letter),
    version=published_rules.VIDEOCHAT_FLASH,
    max_new_tokens=32,
    frames=published_rules.VIDEOCHAT_FLASH_FRAMES,
    note=f"With subtitles at up to 512 nominal times. {_GUESSES}",
    files=_subtitle_files,
  ),
  "official": NamedProtocol(
    prompt=_official_prompt,
    metric=Choice(prefix_letter),
    version="LongVideoBench's data loader",
    max_new_tokens=32,
    frames="the model's own, up to its most",
    note=f"With subtitles at the times of the frames. {_GUESSES}",
    files=_subtitle_files,
    deviation=_BEHIND,
  ),
}
_SPLIT = functools.partial(
  Benchmark,
  protocols=PROTOCOLS,
  by=("duration_group", "question_category", "topic_category"),
  publisher=PUBLISHER,
)
BENCHMARKS = dict(
  longvideobench=_SPLIT(
    read_examples=functools.partial(read_examples, VALIDATION), questions=1337, chance=0.213
  ),
  longvideobench_test=_SPLIT(
    read_examples=functools.partial(read_examples, TEST),
    questions=5341,
    submission=submission,
  ),
)
