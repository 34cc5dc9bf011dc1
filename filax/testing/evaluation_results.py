# SPDX-License-Identifier: Apache-2.0
"""Invented results of evaluations on disk, as `filax evals --out` writes them."""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import random
from typing import Any

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


def averages(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Accuracy and number of rows; with overlaps, also R@1 and mIoU."""
  scores = [row["score"] for row in rows]
  table: dict[str, Any] = dict(accuracy=mean_of(scores), questions=len(rows))
  overlaps = [row["iou"] for row in rows if "iou" in row]
  if overlaps:
    for threshold in (0.3, 0.5, 0.7):
      table[f"R@{threshold}"] = mean_of([overlap >= threshold for overlap in overlaps])
    table["mIoU"] = mean_of(overlaps)
  return table


def mean_of(values: Sequence[float | None]) -> float | None:
  """The mean of the values that are known; None without any."""
  present = [value for value in values if value is not None]
  return sum(present) / len(present) if present else None


def evaluation_result(rows: Sequence[Mapping[str, Any]], **keys: Any) -> dict[str, Any]:
  """The content of result.json for these rows; `keys` replace some of it."""
  total = averages(rows)
  accuracy = total["accuracy"]
  by = {column: averages_by(rows, column) for column in ("length", "task")}
  of_tasks = [group["accuracy"] for group in by["task"].values()]
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
    scores=dict(accuracy=accuracy, micro=accuracy, macro=mean_of(of_tasks)),
    chance=0.25,
    total=len(rows),
    questions=len(rows),
    videos=len({row["media"] for row in rows}),
    by=by,
    accuracy=accuracy,
    shows_text=True,
    finished=True,
  )
  if "mIoU" in total:
    del total["questions"]
    result |= dict(metric="R@0.5", scores=total, chance=None)
  return result | counts(rows) | ENVIRONMENT | keys


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The fields of result.json about what went wrong."""
  return dict(
    skipped=0,
    unparsed=sum(not row["parsed"] for row in rows),
    empty=sum(row["flag"] == "empty" for row in rows),
    degenerate=sum(row["flag"] in ("symbols", "repeats") for row in rows),
    missing=0,
    skipped_questions=[],
    bad_media={},
    bad_questions=[],
    bad_records=[],
  )


def averages_by(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, dict[str, Any]]:
  """Value of a column -> averages of its rows."""
  groups: dict[str, list[Mapping[str, Any]]] = {}
  for row in rows:
    value = row[column]
    for name in value if isinstance(value, list) else [value]:
      groups.setdefault(name, []).append(row)
  return {name: averages(group) for name, group in groups.items()}


def write_results(
  folder: str | os.PathLike, rows: Sequence[Mapping[str, Any]], **keys: Any
) -> pathlib.Path:
  """Writes result.json and answers.jsonl; returns the folder."""
  path = pathlib.Path(folder)
  path.mkdir(parents=True, exist_ok=True)
  (path / "result.json").write_text(json.dumps(evaluation_result(rows, **keys), indent=2))
  lines = [json.dumps(row) + "\n" for row in rows]
  (path / "answers.jsonl").write_text("".join(lines))
  return path
