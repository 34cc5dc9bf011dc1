# SPDX-License-Identifier: Apache-2.0
"""Invented annotation files of the shapes that benchmarks publish, with their odd cases.

No row is copied from a benchmark, because most of their licences forbid it.
"""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
from typing import Any

import pyarrow
import pyarrow.parquet

Path = str | os.PathLike
Rows = Sequence[Mapping[str, Any]]

FONT = '<font color="white" size=".72c">'
# (times, words) with two captions of equal times, one over two lines, and one without the tag.
CAPTIONS = (
  ("00:00:00,200 --> 00:00:01,000", f"{FONT}good morning</font>"),
  ("00:00:01,000 --> 00:00:02,000", f"{FONT}first take</font>"),
  ("00:00:01,000 --> 00:00:02,000", f"{FONT}the kettle</font>"),
  ("00:00:02,000 --> 00:00:03,000", f"{FONT}is on\nthe stove</font>"),
  ("00:00:03,000 --> 00:00:03,500", "[music]"),
  ("00:00:03,500 --> 00:00:04,000", f"{FONT}and boils</font>"),
)


def write_json(path: Path, content: Any) -> str:
  """Writes JSON and returns the path."""
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  pathlib.Path(path).write_text(json.dumps(content))
  return os.fspath(path)


def write_parquet(path: Path, rows: Rows) -> str:
  """Writes a parquet file and returns the path."""
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
  return os.fspath(path)


def videomme_row(**changes: Any) -> dict[str, Any]:
  """A row of Video-MME."""
  row = dict(
    video_id="017",
    duration="short",
    domain="Knowledge",
    sub_category="Geography",
    url="https://www.youtube.com/watch?v=AbCdEfGhIjK",
    videoID="AbCdEfGhIjK",
    question_id="017-2",
    task_type="Counting Problem",
    question="How many cups are on the table?",
    options=["A. Two.", "B. Three.", "C. Four.", "D. Five."],
    answer="C",
  )
  return row | changes


def write_videomme(folder: Path, rows: Rows) -> str:
  """Writes Video-MME's parquet file; returns the folder."""
  write_parquet(pathlib.Path(folder, "videomme/test-00000-of-00001.parquet"), rows)
  return os.fspath(folder)


def write_captions(
  folder: Path,
  video: str,
  captions: Sequence[tuple[str, str]] = CAPTIONS,
  newline: str = "\r\n",
) -> str:
  """Writes subtitle/<video>.srt of Video-MME; returns its path."""
  path = pathlib.Path(folder, "subtitle", f"{video}.srt")
  path.parent.mkdir(parents=True, exist_ok=True)
  text = ""
  for number, (times, words) in enumerate(captions, 1):
    text += f"{number}\n{times}\n{words}\n\n"
  path.write_bytes(text.replace("\n", newline).encode())
  return str(path)


def mvbench_row(**changes: Any) -> dict[str, Any]:
  """A record of MVBench; tasks with bounds also have start and end."""
  row = dict(
    video="ZX9.mp4",
    question="What did the person do after lifting the box?",
    candidates=["Sat down.", "Opened the door.", "Left."],
    answer="Opened the door.",
  )
  return row | changes


def write_mvbench(folder: Path, tasks: Mapping[str, Rows]) -> str:
  """Writes json/<task>.json of MVBench's tasks; returns the folder."""
  for task, rows in tasks.items():
    write_json(pathlib.Path(folder, "json", f"{task}.json"), rows)
  return os.fspath(folder)


def longvideobench_row(**changes: Any) -> dict[str, Any]:
  """A record of LongVideoBench's JSON."""
  row = dict(
    id="abc123XYZ_0_2",
    video_id="abc123XYZ_0",
    video_path="abc123XYZ_0.mp4",
    subtitle_path="abc123XYZ_0_en.json",
    question="At the harbour, what does the man in the red coat do next?",
    question_wo_referring_query="What does the man do next?",
    candidates=["sits down", "leaves", "waves"],
    correct_choice=2,
    position=[14, 80],
    level="L1-Perception",
    duration=20.0,
    duration_group=600,
    question_category="T2E",
    topic_category="KS-Knowledge-STEM",
    starting_timestamp_for_subtitles=765,
    view_count=3,
  )
  return row | changes


def longvideobench_columns(row: Mapping[str, Any]) -> dict[str, Any]:
  """The record as a row of LongVideoBench's parquet, options padded with "N/A"."""
  columns = dict(row)
  for name in ("question_wo_referring_query", "position", "level", "view_count", "candidates"):
    del columns[name]
  for number in range(5):
    options = row["candidates"]
    columns[f"option{number}"] = options[number] if number < len(options) else "N/A"
  columns["starting_timestamp_for_subtitles"] = float(row["starting_timestamp_for_subtitles"])
  return columns


def longvideobench_subtitles() -> list[dict[str, Any]]:
  """Subtitles of LongVideoBench, in both forms.

  The video is the seconds 765..785 of their source. The ends None and 771 (no float) stand for the
  video's duration, so that those subtitles end before they begin.
  """
  return [
    dict(timestamp=[3.2, 5.0], text="long before"),
    dict(timestamp=[765.0, 767.5], text="ships come in"),
    dict(timestamp=[767.6, 767.9], text="brief"),
    dict(timestamp=[768.2, None], text="no end"),
    dict(timestamp=[770.0, 771], text="whole end"),
    dict(start="00:12:55.5", end="00:12:58.25", line="he waves"),
  ]


def mlvu_row(**changes: Any) -> dict[str, Any]:
  """A record of MLVU's dev set; its test set also has question_id."""
  row = dict(
    video="needle_32.mp4",
    duration=483.5,
    question="What does the chef drop?",
    candidates=["A spoon", "A pan", "An egg", "A cup"],
    answer="An egg",
    question_type="findNeedle",
  )
  return row | changes


def mlvu_copy_row(**changes: Any) -> dict[str, Any]:
  """A row of lmms-eval's copy of MLVU's dev set.

  The question lists its options.
  """
  row = dict(
    video_name="ego_2",
    duration=300.0,
    question="What does the chef drop?\n(A) A spoon\n(B) A pan\n(C) An egg\n(D) A cup",
    candidates=["A spoon", "A pan", "An egg", "A cup"],
    answer="C",
    task_type="ego",
    question_id="ego_7",
  )
  return row | changes
