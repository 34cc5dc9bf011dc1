# SPDX-License-Identifier: Apache-2.0
"""The row of an answered question, as answers.jsonl holds it."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from filax.evals.answering import GeneratedAnswer
from filax.evals.kit import Benchmark, Example, NamedProtocol, RemoteMetric, Score
from filax.evals.metrics.degenerate import answer_flag

Row = dict[str, Any]

# Entries of a score besides its value and answer, in rows where they are set.
DETAILS = tuple(
  field for field in dataclasses.fields(Score) if field.name not in ("value", "answer")
)
RESERVED = (
  *("id", "question", "answer", "expected", "score", "parsed", "choice", "flag", "media"),
  *("references", "seconds", *(field.name for field in DETAILS)),
)


def answer_row(benchmark: Benchmark, protocol: NamedProtocol, answer: GeneratedAnswer) -> Row:
  """The row of an answer, scored.

  `score` is None if the publisher keeps the right answer. `seconds` is the length of the first
  video, and so is `duration` unless the benchmark has a column of this name. A RemoteMetric scores
  the row later. Raises whatever the metric raises for an answer or example that it cannot score.
  """
  example = answer.question.example
  score = _first_score(protocol, answer.text, example)
  seconds = round(answer.question.duration, 3)
  first_medium = example.media[0][0].media if example.media else ""
  row: Row = dict(
    id=example.id,
    question=example.turn.text.strip() if benchmark.shows_text else "",
    answer=answer.text,
    expected=example.answer,
    score=score.value if has_right_answer(example) else None,
    parsed=score.parsed,
    choice=score.answer,
    flag=answer_flag(answer.text),
    media=first_medium,
    seconds=seconds,
    duration=seconds,
    **_details(score),
  )
  if example.references:
    row["references"] = list(example.references)
  for column in report_columns(benchmark):
    row[column] = column_value(example, column)
  return row


def _first_score(protocol: NamedProtocol, text: str, example: Example) -> Score:
  """The score of a new answer; pending for a RemoteMetric."""
  if not isinstance(protocol.metric, RemoteMetric):
    return protocol.metric.score(text, example)
  return Score(0.0, pending=has_right_answer(example))


def score_pending(protocol: NamedProtocol, row: Row, example: Example) -> Row | None:
  """The row of an answer that could not be scored before.

  None if it still cannot be scored.
  """
  if not row.get("pending"):
    return None
  score = protocol.metric.score(row["answer"], example)
  if score.pending:
    return None
  before = {name: value for name, value in row.items() if name != "pending"}
  value = score.value if has_right_answer(example) else None
  return before | dict(score=value, parsed=score.parsed, choice=score.answer) | _details(score)


def _details(score: Score) -> dict[str, Any]:
  """The further entries of a score that are set."""
  details = {}
  for field in DETAILS:
    value = getattr(score, field.name)
    if value != field.default:
      details[field.name] = value
  return details


def report_columns(benchmark: Benchmark) -> list[str]:
  """The columns to report by, that of the macro average among them.

  Raises ValueError for a column with the name of another entry of a row.
  """
  columns = [column for column in dict.fromkeys((*benchmark.by, benchmark.macro)) if column]
  for column in columns:
    if column in RESERVED:
      raise ValueError(
        f"The column {column!r} of Benchmark.by has the name of an entry of answers.jsonl. Copy it "
        "to another name in Example.fields."
      )
  return columns


def has_right_answer(example: Example) -> bool:
  """Whether the right answer is public."""
  return bool(example.answer) or example.span is not None


def column_value(example: Example, column: str) -> str | list[str]:
  """The group of an example in a column, or its groups."""
  value = example.fields.get(column)
  if isinstance(value, list | tuple):
    return list(dict.fromkeys(map(str, value)))  # A repeated label counts once.
  return "" if value is None else str(value)


def row_groups(row: Mapping[str, Any], column: str) -> Sequence[str]:
  """The groups of a row in a column."""
  value = row.get(column, "")
  return value if isinstance(value, list) else [value]


def row_score(row: Mapping[str, Any]) -> Score:
  """The score that a row was made of."""
  details = {field.name: row[field.name] for field in DETAILS if field.name in row}
  return Score(row["score"], row["choice"], **details)
