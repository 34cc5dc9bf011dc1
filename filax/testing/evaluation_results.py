# SPDX-License-Identifier: Apache-2.0
"""Invented results of evaluations on disk, as `filax evals --out` writes them."""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import random
from typing import Any

import numpy as np

Row = Mapping[str, Any]  # A line of answers.jsonl.
Rows = Sequence[Row]

LETTERS = "ABCD"
DURATIONS = ("short", "medium", "long")
TASKS = ("Counting", "Order", "Action", "OCR & signs", "时间推理")

ENVIRONMENT: dict[str, Any] = dict(  # Fields of result.json that do not depend on the answers.
  manifest="data/cups",
  checkpoint="runs/toy",
  selector="kmeans",
  frames=96,
  blind=False,
  settings=dict(
    frames=96,
    fps=None,
    selector="kmeans",
    tokens_per_frame=64,
    dropout="off",
    dtype="bfloat16",
    decoder="PyAV 18.1",
    max_new_tokens=16,
    temperature=0.0,
    batch=32,
    mesh=dict(data=1, seq=1),
  ),
  first_prompt="How many cups stand on table 0?\nA. Two.\nB. Three.",
  hashes=dict(checkpoint="ab" * 32, annotations={"data/cups/test.parquet": "cd" * 32}),
  seconds=dict(decode=812.0, encode=320.5, prefill=110.2, generate=95.0, wait=3.1, total=540.8),
  idle_share=0.02,
  compilations=5,
)


def answer_row(number: int, right: bool = True, **keys: Any) -> dict[str, Any]:
  """An answer as a line of answers.jsonl; three questions share a video."""
  letter = LETTERS[number % 4]
  chosen = letter if right else LETTERS[(number + 1) % 4]
  row = dict(
    id=f"q{number}",
    question=f"How many cups stand on table {number}?",
    answer=f"{chosen}.",
    expected=letter,
    score=float(right),
    parsed=True,
    choice=chosen,
    flag="",
    media=f"videos/{number // 3:04d}.mp4",
    duration=30.0 + number % 600,
    length=DURATIONS[number // 3 % 3],
    task=TASKS[number % len(TASKS)],
  )
  return row | keys


def answer_rows(count: int, accuracy: float = 0.6, seed: int = 0) -> list[dict[str, Any]]:
  """Answers with about that accuracy; some are not understood, empty or repeated."""
  random_numbers = random.Random(seed)
  rows = []
  for number in range(count):
    right = random_numbers.random() < accuracy
    keys: dict[str, Any] = {}
    fate = random_numbers.random()
    if not right and fate < 0.05:
      keys = dict(answer="I cannot see any cup.", parsed=False, choice=None)
    elif not right and fate < 0.08:
      keys = dict(answer="", parsed=False, choice=None, flag="empty")
    elif not right and fate < 0.1:
      keys = dict(answer="!" * 16, parsed=False, choice=None, flag="symbols")
    rows.append(answer_row(number, right, **keys))
  return rows


def grounding_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
  """Answers of temporal grounding, with their overlap."""
  random_numbers = random.Random(seed)
  rows = []
  for number in range(count):
    overlap = random_numbers.random()
    span = f"{number % 20}.0-{number % 20 + 6}.0"
    keys = dict(answer=f"The event happens in the {span} seconds.", choice=span, iou=overlap)
    rows.append(answer_row(number, overlap >= 0.5, expected="", **keys))
  return rows


def averages(rows: Rows) -> dict[str, Any]:
  """Accuracy and number of rows; with overlaps, also R@1 and mIoU."""
  table: dict[str, Any] = dict(accuracy=mean_of(rows, "score"), questions=len(rows))
  if rows and "iou" in rows[0]:
    overlaps = np.asarray([row["iou"] for row in rows])
    for threshold in (0.3, 0.5, 0.7):
      reached = overlaps >= threshold
      table[f"R@{threshold}"] = float(reached.mean())
    table["mIoU"] = float(overlaps.mean())
  return table


def mean_of(rows: Rows, field: str) -> float | None:
  """The mean of a field over rows; None without values."""
  values = [row[field] for row in rows if row[field] is not None]
  return sum(values) / len(values) if values else None


def evaluation_result(rows: Rows, **keys: Any) -> dict[str, Any]:
  """The content of result.json for these rows; `keys` replace some of it."""
  total = averages(rows)
  accuracy = total["accuracy"]
  by_task = averages_by(rows, "task")
  result: dict[str, Any] = dict(
    schema=1,
    filax="0.1.0",
    benchmark="cups",
    protocol="vcf",
    protocol_version="VideoChat-Flash 2f8e2f5",
    note="",
    comparable=True,
    reasons=[],
    metric="accuracy",
    scores=dict(
      accuracy=accuracy, micro=accuracy, macro=mean_of(list(by_task.values()), "accuracy")
    ),
    chance=0.25,
    total=len(rows),
    questions=len(rows),
    videos=len({row["media"] for row in rows}),
    by=dict(length=averages_by(rows, "length"), task=by_task),
    accuracy=accuracy,
    shows_text=True,
    finished=True,
  )
  if "mIoU" in total:
    del total["questions"]
    result |= dict(metric="R@0.5", scores=total, chance=None)
  return result | counts(rows) | ENVIRONMENT | keys


def counts(rows: Rows) -> dict[str, Any]:
  """The fields of result.json about what went wrong."""
  flags = [row["flag"] for row in rows]
  parsed = [row["parsed"] for row in rows]
  return dict(
    skipped=0,
    unparsed=parsed.count(False),
    empty=flags.count("empty"),
    degenerate=flags.count("symbols") + flags.count("repeats"),
    missing=0,
    skipped_questions=[],
    bad_media={},
    bad_questions=[],
    bad_records=[],
  )


def averages_by(rows: Rows, column: str) -> dict[str, dict[str, Any]]:
  """Value of a column -> averages of its rows."""
  groups: dict[str, list[Row]] = {}
  for row in rows:
    value = row[column]
    for name in value if isinstance(value, list) else [value]:
      groups.setdefault(name, []).append(row)
  return {name: averages(group) for name, group in groups.items()}


def write_results(folder: str | os.PathLike, rows: Rows, **keys: Any) -> pathlib.Path:
  """Writes result.json and answers.jsonl; returns the folder."""
  path = pathlib.Path(folder)
  path.mkdir(parents=True, exist_ok=True)
  (path / "result.json").write_text(json.dumps(evaluation_result(rows, **keys), indent=2))
  with open(path / "answers.jsonl", "w") as file:
    for row in rows:
      file.write(json.dumps(row) + "\n")
  return path
