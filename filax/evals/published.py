# SPDX-License-Identifier: Apache-2.0
"""Published scores.

The file published.csv has one line per number, with the protocol behind it.

Prompts, answer extractors and subtitle rules move scores by several points, so a number stands
beside a run of the same protocol only. `protocol` is a named protocol of filax.evals.benchmarks;
it is empty where the source does not state how it asked.
"""

from collections.abc import Mapping, Sequence
import csv
import functools
import io
from typing import Any, NamedTuple

from filax.evals import html_page


class PublishedScore(NamedTuple):
  """A score of a paper."""

  model: str
  benchmark: str
  metric: str  # The name of the score in result.json; "" is the main score.
  score: float  # 0..1.
  protocol: str
  frames: str
  source: str
  note: str


@functools.cache
def all_published() -> tuple[PublishedScore, ...]:
  """The lines of published.csv."""
  scores = []
  for row in csv.DictReader(io.StringIO(html_page.resource("published.csv"))):
    score = float(row.pop("points")) / 100
    scores.append(PublishedScore(score=score, **row))
  return tuple(scores)


def published_scores(benchmark: str) -> list[PublishedScore]:
  """The published scores on a benchmark."""
  return [score for score in all_published() if score.benchmark == benchmark]


def mismatch(score: PublishedScore, results: Sequence[Mapping[str, Any]]) -> str:
  """Why no run stands beside a published score; "" if one does.

  results: those of the benchmark (result.json).
  """
  if not score.protocol:
    return "its protocol is not stated"
  same = [result for result in results if result["protocol"] == score.protocol]
  if not same:
    return f"no run under protocol {score.protocol}"
  if not any(result["comparable"] for result in same):
    return f"no comparable run under protocol {score.protocol}"
  return ""
