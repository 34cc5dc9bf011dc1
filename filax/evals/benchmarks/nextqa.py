# SPDX-License-Identifier: Apache-2.0
"""NExT-QA: five options about causes, order and description (arXiv:2105.08276).

`nextqa` is the test set, of which the LLaVA family publishes scores; `nextqa_val` the validation
set. The data of LLaVA-Video have training questions of NExT-QA.
"""

from collections.abc import Iterator, Mapping
import functools
import os

from data_pipelines.sample import Scene
from filax.evals import published_rules
from filax.evals.annotation_files import Row, find_file, parsed_rows, read_rows
from filax.evals.annotation_formats import csv_rows, json_object
from filax.evals.annotation_values import id_field, option_number, words_field
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, ShownMedia, Source
from filax.evals.media_lookup import MediaLookup, with_extensions
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.mmmu import mmmu_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.prompt_parts import option_lines, question_text, video_prompt, video_turn

PUBLISHER = "Its authors have it at https://github.com/doc-doc/NExT-QA (dataset/nextqa)."
FOLDERS = ("nextqa", "NExTQA", "NExT-QA")
VIDEO_FOLDERS = ("NExTVideo", "data/nextqa/NExTVideo", "videos", "")
MAP = "map_vid_vidorID.json"  # Video id -> folder and id in VidOR, as the videos are published.
OPTION_FIELDS = ("a0", "a1", "a2", "a3", "a4")
FIELDS = ("video", "question", "answer", "qid", "type", *OPTION_FIELDS)
GROUPS = dict(C="causal", T="temporal", D="descriptive")  # By the first letter of a type.


def read_examples(source: Source, split: str = "test") -> Iterator[Example]:
  """The questions of a split.

  "group" among their fields joins CW and CH, TN, TP and TC, DC, DL and DO.
  """
  names = (
    f"{split}.csv",
    f"dataset/nextqa/{split}.csv",
    f"MC/{split}-00000-of-00001.parquet",
  )
  file = find_file(source, FOLDERS, names, PUBLISHER)
  if file is None:
    return
  read = read_rows if file.path.endswith(".parquet") else csv_rows
  videos = MediaLookup(source.root or file.folder)
  parse = functools.partial(_example, videos, _video_names(source, os.path.dirname(file.path)))
  yield from parsed_rows(source, file.path, read(file.path, FIELDS), parse)


def _video_names(source: Source, folder: str) -> Mapping[str, str]:
  """Video id -> published path without its extension; {} without the map."""
  path = os.path.join(folder, MAP)
  if not os.path.exists(path):
    return {}
  source.annotations.append(path)
  return json_object(path)


def _example(videos: MediaLookup, names: Mapping[str, str], number: int, row: Row) -> Example:
  """The question of a record. Raises RecordError."""
  del number
  video = id_field(row, "video")
  options = []
  for name in OPTION_FIELDS:
    options.append(id_field(row, name))
  candidates = with_extensions(video, VIDEO_FOLDERS)
  if video in names:
    candidates = with_extensions(names[video], VIDEO_FOLDERS) + candidates
  kind = words_field(row, "type")
  return Example(
    id=f"{video}_{id_field(row, 'qid')}",
    turn=video_turn(words_field(row, "question").strip()),
    answer=LETTERS[option_number(row["answer"], "answer", len(options))],
    media=((Scene(videos.path(candidates)),),),
    options=tuple(options),
    fields={**row, "group": GROUPS.get(kind[:1], kind)},
  )


def _lmms_prompt(example: Example, shown: ShownMedia) -> Prompt:
  """The question and its options; nothing asks for a letter."""
  del shown
  options = option_lines(example.options, "", ". ")
  return video_prompt(f"{question_text(example)}\n{options}")


LMMS = NamedProtocol(
  prompt=_lmms_prompt,
  metric=Choice(mmmu_letter),
  version=published_rules.LMMS_EVAL,
  max_new_tokens=published_rules.ADAPTER_MAX_TOKENS,
  frames=published_rules.LLAVA_FRAMES,
  note=published_rules.FILA_IS_SILENT,
)
BENCHMARKS = dict(
  nextqa=Benchmark(
    read_examples=read_examples,
    protocols={"lmms-eval": LMMS},
    by=("type", "group"),
    questions=8564,
    chance=0.2,
    publisher=PUBLISHER,
  ),
  nextqa_val=Benchmark(
    read_examples=functools.partial(read_examples, split="val"),
    protocols={"lmms-eval": LMMS},
    by=("type", "group"),
    questions=4996,
    chance=0.2,
    publisher=PUBLISHER,
  ),
)
