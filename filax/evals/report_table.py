# SPDX-License-Identifier: Apache-2.0
"""The table of runs and benchmarks, with published scores below the runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from filax.evals import html_page
from filax.evals.html_page import Markup, element, points

NOT_COMPARABLE = "*"
OTHER_PROTOCOL = "≠"
LEGEND = (
  f"Scores in points. {NOT_COMPARABLE} is not comparable with published scores; the reasons are "
  f"below. {OTHER_PROTOCOL} marks a published score whose protocol is not stated, or under which "
  "no run here is comparable."
)

Numbers = Mapping[str, Any]  # A part of filax.evals.report.build_report.


def score_matrix(runs: Sequence[str], benchmarks: Mapping[str, Numbers]) -> Markup:
  """A row for each run and model, a column for each benchmark."""
  rows = []
  for run in runs:
    row = [element("b", run)]
    for numbers in benchmarks.values():
      row.append(_run_cell(numbers["runs"], run))
    rows.append(row)
  for model in published_models(benchmarks):
    row = [element("span", model, class_="faint")]
    for numbers in benchmarks.values():
      row.append(_published_cell(numbers, model))
    rows.append(row)
  return html_page.table(["", *benchmarks], rows, class_="matrix")


def _run_cell(evaluated: Sequence[Numbers], run: str) -> Markup:
  """The score of a run, or its several scores, on a benchmark."""
  cells = []
  for numbers in evaluated:
    if numbers["run"] == run:
      mark = "" if numbers["comparable"] else NOT_COMPARABLE
      reasons = " ".join(map(str, numbers["reasons"]))
      cells.append(element("span", points(numbers["score"]), mark, title=reasons))
  return html_page.joined(cells, " / ")


def published_models(benchmarks: Mapping[str, Numbers]) -> list[str]:
  """The models with published scores of the main metrics."""
  models: dict[str, None] = {}
  for numbers in benchmarks.values():
    for score in main_published(numbers):
      models[score["model"]] = None
  return list(models)


def main_published(numbers: Numbers) -> list[Numbers]:
  """The published scores of the metric that the runs report."""
  names = ("", numbers["runs"][0]["metric"])
  return [score for score in numbers["published"] if score["metric"] in names]


def _published_cell(numbers: Numbers, model: str) -> Markup:
  """The first published score of a model."""
  for score in main_published(numbers):
    if score["model"] == model:
      mark = f" {OTHER_PROTOCOL}" if score["mismatch"] else ""
      return element(
        "span",
        points(score["score"]),
        mark,
        class_="faint",
        title=f"{score['source']} {score['mismatch']}",
      )
  return Markup("")
