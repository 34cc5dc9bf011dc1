# SPDX-License-Identifier: Apache-2.0
"""Charades-STA: when a sentence happens in a video of 30 seconds (arXiv:1705.02101).

3,720 sentences about 1,334 videos of the test set; R@1 at overlaps of 0.3, 0.5 and 0.7, and mIoU.
"""

from collections.abc import Iterator
import functools
import re

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.reader import RecordError
from data_pipelines.text import templates
from filax.evals import published_rules
from filax.evals.annotation_files import (
  Row,
  as_number,
  check_fields,
  find_files,
  numbered_ids,
  parsed_rows,
  table_rows,
  text_field,
  text_lines,
)
from filax.evals.benchmark_media import VideoFolders
from filax.evals.kit import (
  BadAnnotation,
  Benchmark,
  Example,
  NamedProtocol,
  Prompt,
  ShownMedia,
  Source,
)
from filax.evals.metrics.grounding import Grounding
from filax.evals.metrics.spans import parse_span_lmms, parse_span_vcf
from filax.evals.question_text import user_prompt

PUBLISHER = (
  "VideoChat-Flash has it at https://github.com/OpenGVLab/VideoChat-Flash "
  "(lmms-eval_videochat/eval_annotations/Temporal_Grounding/json), the authors' "
  "charades_sta_test.txt is at https://github.com/jiyanggao/TALL."
)
FILES = (
  "temporal_grounding_charades.json",
  "json/temporal_grounding_charades.json",
  "data/test-*.parquet",
  "charades_sta_test.txt",
)
FOLDERS = ("Charades_v1_480", "Charades", "Charades_v1", "videos", "")
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
  """The sentences of the test set with their spans in seconds."""
  yield from numbered_ids(_all_examples(source))


def _all_examples(source: Source) -> Iterator[Example]:
  videos = VideoFolders(source, FOLDERS)
  for path in find_files(source, FILES, PUBLISHER):
    rows = _line_rows(path) if path.endswith(".txt") else table_rows(path)
    check_fields(path, rows, FIELDS)
    yield from parsed_rows(source, path, rows, functools.partial(_example, videos=videos))


def _line_rows(path: str) -> list[Row]:
  """The records of the authors' file: "VIDEO start stop##sentence."."""
  rows: list[Row] = []
  for line in text_lines(path):
    match = _LINE.fullmatch(line.strip())
    if match is None:
      rows.append({"line": line})  # Reported as a bad record.
      continue
    timestamp = [match["start"], match["stop"]]
    rows.append(dict(video=match["video"], caption=match["caption"], timestamp=timestamp))
  return rows


def _example(row: Row, videos: VideoFolders) -> Example:
  video = text_field(row, "video")
  start, stop = _span(row)
  return Example(
    id=video.removesuffix(".mp4"),
    turn=templates.question(text_field(row, "caption"))[0],
    answer=f"{start:g} - {stop:g}",
    media=(videos.timeline(video),),
    fields=row,
    span=(start, stop),
  )


def _span(row: Row) -> tuple[float, float]:
  """The right span in seconds. Raises RecordError for another value."""
  timestamp = row.get("timestamp")
  if not isinstance(timestamp, list) or len(timestamp) != 2:
    raise RecordError(f"has timestamp {excerpt(timestamp)}, which is no pair of seconds")
  start = as_number(timestamp[0], "timestamp")
  stop = as_number(timestamp[1], "timestamp")
  if not 0 <= start < stop:
    raise RecordError(f"has timestamp {excerpt(timestamp)}, which is no span from start to end")
  return start, stop


def _prompt(example: Example, shown: ShownMedia) -> Prompt:
  """The prompt of VideoChat-Flash and lmms-eval, whose sentence ends in two stops."""
  del shown
  caption = example.turn.text.removeprefix("\n")
  return user_prompt(example, f"{INSTRUCTION}{caption}. {REQUEST}")


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
