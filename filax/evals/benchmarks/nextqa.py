# SPDX-License-Identifier: Apache-2.0
"""NExT-QA: five options about causes, order and description (arXiv:2105.08276).

`nextqa` is the test set, of which the LLaVA family publishes scores; `nextqa_val` the validation
set. The data of LLaVA-Video have training questions of NExT-QA.
"""

from collections.abc import Iterator
import functools
import os

from data_pipelines.text import templates
from filax.evals import published_rules
from filax.evals.annotation_files import (
  Row,
  check_fields,
  find_files,
  index_field,
  json_object,
  parsed_rows,
  table_rows,
  text_field,
)
from filax.evals.benchmark_media import VideoFolders
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, ShownMedia, Source
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.mmmu import mmmu_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.question_text import option_lines, user_prompt

PUBLISHER = "Its authors have it at https://github.com/doc-doc/NExT-QA (dataset/nextqa)."
FOLDERS = ("NExTVideo", "videos", "")
MAP = "map_vid_vidorID.json"  # Video id -> folder and id in VidOR, as the videos are published.
OPTION_FIELDS = ("a0", "a1", "a2", "a3", "a4")
FIELDS = ("video", "question", "answer", "qid", "type", *OPTION_FIELDS)
GROUPS = dict(C="causal", T="temporal", D="descriptive")  # By the first letter of a type.


def read_examples(source: Source, split: str = "test") -> Iterator[Example]:
  """The questions of a split; "group" joins CW and CH, TN, TP and TC, DC, DL and DO."""
  file_names = (
    f"{split}.csv",
    f"nextqa/{split}.csv",
    f"dataset/nextqa/{split}.csv",
    f"MC/{split}-*.parquet",
  )
  for path in find_files(source, file_names, PUBLISHER):
    rows = table_rows(path)
    check_fields(path, rows, FIELDS)
    names_in_vidor = _video_names(source, os.path.dirname(path))
    videos = VideoFolders(source, FOLDERS)
    parse = functools.partial(_example, names=names_in_vidor, videos=videos)
    yield from parsed_rows(source, path, rows, parse)


def _example(row: Row, names: dict[str, str], videos: VideoFolders) -> Example:
  video = text_field(row, "video")
  options = tuple(text_field(row, name).strip() for name in OPTION_FIELDS)
  kind = text_field(row, "type")
  published_name = names.get(video, video)
  return Example(
    id=f"{video}_{text_field(row, 'qid')}",
    turn=templates.question(text_field(row, "question").strip())[0],
    answer=LETTERS[index_field(row, "answer", len(options))],
    media=(videos.timeline(published_name, video),),
    options=options,
    fields={**row, "type": kind, "group": GROUPS.get(kind[:1], kind)},
  )


def _video_names(source: Source, folder: str) -> dict[str, str]:
  """Video id -> published path without its extension; {} without the map."""
  path = os.path.join(folder, MAP)
  if not os.path.exists(path):
    return {}
  source.annotations.append(path)
  return json_object(path)


def _lmms_prompt(example: Example, shown: ShownMedia) -> Prompt:
  """The question and its options; nothing asks for a letter."""
  del shown
  question = example.turn.text.strip()
  return user_prompt(example, f"{question}\n{option_lines(example.options)}")


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
