# SPDX-License-Identifier: Apache-2.0
"""Scores the answers that wait for a server, several at a time."""

from collections.abc import Iterator, Mapping
import sys

from filax.concurrent_calls import concurrent_calls
from filax.evals.evaluation import Evaluation
from filax.evals.kit import Example, RemoteMetric
from filax.evals.rows import Row, score_pending
from filax.progress import WorkProgress


def check_server(evaluation: Evaluation) -> None:
  """Lets a metric that asks a server report wrong settings."""
  if isinstance(evaluation.protocol.metric, RemoteMetric):
    evaluation.protocol.metric.answers_at_once()


def count_pending(rows: Mapping[str, Row]) -> int:
  """How many answers wait for their score."""
  return sum(bool(row.get("pending")) for row in rows.values())


def score_pending_rows(evaluation: Evaluation, rows: Mapping[str, Row]) -> Iterator[Row]:
  """Yields the rows that can be scored now, as their scores come."""
  protocol = evaluation.protocol
  metric = protocol.metric
  at_once = metric.answers_at_once() if isinstance(metric, RemoteMetric) else 1
  waiting = []
  for example in evaluation.examples:
    if rows.get(example.id, {}).get("pending"):
      waiting.append(example)

  def score(example: Example) -> Row | None:
    return score_pending(protocol, rows[example.id], example)

  out = sys.stderr if evaluation.options.progress else None
  with WorkProgress("answers judged", len(waiting), out) as progress:
    for _, row in concurrent_calls(score, waiting, at_once):
      progress.count_one()
      if row is not None:
        yield row
