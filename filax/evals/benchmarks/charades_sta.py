# SPDX-License-Identifier: Apache-2.0
"""Charades-STA: when a sentence happens in a video of 30 seconds (arXiv:1705.02101).

3,720 sentences about 1,334 videos of the test set; R@1 at overlaps of 0.3, 0.5 and 0.7, and mIoU.
"""

from collections.abc import Iterator
import functools
import os
import re

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene
from filax.evals import published_rules
from filax.evals.annotation_files import Row, find_file, parsed_rows, read_rows
from filax.evals.annotation_formats import check_fields, text_lines
from filax.evals.annotation_values import as_number, words_field
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, ShownMedia, Source
from filax.evals.media_lookup import MediaLookup, with_extensions
from filax.evals.metrics.grounding import Grounding
from filax.evals.metrics.spans import parse_span_lmms, parse_span_vcf
from filax.evals.prompt_parts import question_text, video_prompt, video_turn

PUBLISHER = (
  "VideoChat-Flash has it at https://github.com/OpenGVLab/VideoChat-Flash "
  "(lmms-eval_videochat/eval_annotations/Temporal_Grounding/json), the authors' "
  "charades_sta_test.txt is at https://github.com/jiyanggao/TALL."
)
FOLDERS = ("Temporal_Grounding", "Charades", "charades_sta")
FILES = (
  "temporal_grounding_charades.json",
  "json/temporal_grounding_charades.json",
  "data/test-00000-of-00001.parquet",
  "charades_sta_test.txt",
)
VIDEO_FOLDERS = ("Charades_v1_480", "Charades", "Charades_v1", "videos", "")
FIELDS = ("video", "caption", "timestamp")
_LINE = re.compile(r"(?P<video>\S+)\s+(?P<start>\S+)\s+(?P<stop>\S+?)\s*##(?P<caption>.+)")

INSTRUCTION = (
  "Please find the visual event described by a sentence in the video, determining its starting and "
  "ending times. The format should be: 'The event happens in the start time - end time'. For "
  "example, The event 'person turn a light on' happens in the 24.3 - 30.4 seonds. Now I will give "
  "you the textual sentence: "
)
REQUEST = "Please return its start time and end time."


def read_examples(source: Source) -> Iterator[Example]:
  """The sentences of the test set with their spans in seconds.

  They have the id of their video.
  """
  file = find_file(source, FOLDERS, FILES, PUBLISHER)
  if file is None:
    return
  rows = _line_rows(file.path) if file.path.endswith(".txt") else read_rows(file.path, FIELDS)
  videos = MediaLookup(source.root or file.folder)
  yield from parsed_rows(source, file.path, rows, functools.partial(_example, videos))


def _line_rows(path: str) -> list[Row]:
  """The records of the authors' file: "VIDEO start stop##sentence."."""
  rows: list[Row] = []
  for line in text_lines(path):
    match = _LINE.fullmatch(line.strip())
    if match is None:
      rows.append(dict(line=line))  # Reported as a bad record.
      continue
    timestamp = [match["start"], match["stop"]]
    rows.append(dict(video=match["video"], caption=match["caption"], timestamp=timestamp))
  check_fields(path, rows, FIELDS)
  return rows


def _example(videos: MediaLookup, number: int, row: Row) -> Example:
  """The sentence of a record. Raises RecordError."""
  del number
  name, _ = os.path.splitext(words_field(row, "video"))
  start, stop = _span(row)
  path = videos.path(with_extensions(name, VIDEO_FOLDERS))
  return Example(
    id=name,
    turn=video_turn(words_field(row, "caption")),
    answer=f"{start:g} - {stop:g}",
    media=((Scene(path),),),
    fields=row,
    span=(start, stop),
  )


def _span(row: Row) -> tuple[float, float]:
  """The right span in seconds. Raises RecordError for another value."""
  timestamp = row.get("timestamp")
  if not isinstance(timestamp, list) or len(timestamp) != 2:
    raise RecordError(f"has the timestamp {excerpt(timestamp)}, which is not a pair of seconds")
  start = as_number(timestamp[0], "timestamp")
  stop = as_number(timestamp[1], "timestamp")
  if not 0 <= start < stop:
    raise RecordError(
      f"has the timestamp {excerpt(timestamp)}, which is not a span from start to end"
    )
  return start, stop


def _prompt(example: Example, shown: ShownMedia) -> Prompt:
  """The prompt of VideoChat-Flash and lmms-eval, whose sentence ends in two stops."""
  del shown
  return video_prompt(f"{INSTRUCTION}{question_text(example)}. {REQUEST}")


LMMS = NamedProtocol(
  prompt=_prompt,
  metric=Grounding(parse_span_lmms),
  version=published_rules.LMMS_EVAL,
  max_new_tokens=50,
  frames=published_rules.LLAVA_FRAMES,
)
VCF = NamedProtocol(
  prompt=_prompt,
  metric=Grounding(parse_span_vcf),
  version=published_rules.VIDEOCHAT_FLASH,
  max_new_tokens=50,
  frames=published_rules.VIDEOCHAT_FLASH_FRAMES,
  note=(
    "VideoChat-Flash's time sentence (config.infer.time_prompt vcf_released) stands before the "
    "prompt; without it the model does not know the duration."
  ),
)
BENCHMARKS = dict(
  charades_sta=Benchmark(
    read_examples=read_examples,
    protocols={"lmms-eval": LMMS, "vcf": VCF},
    by=(),
    questions=3720,
    publisher=PUBLISHER,
    shows_text=False,
  )
)
