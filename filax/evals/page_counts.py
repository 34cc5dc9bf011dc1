# SPDX-License-Identifier: Apache-2.0
"""The part of page.html about what was skipped, not understood or degenerate."""

from collections.abc import Sequence
from typing import Any

from filax.evals import html_page, samples
from filax.evals.html_page import Markup
from filax.evals.results import Results
from filax.evals.shown_rows import short_text

MOST_LISTED = 100  # The most entries of a list; the rest is in result.json.


def count_section(results: Results) -> list[Markup]:
  """Figures, lists of what was skipped, and samples of odd answers."""
  return [
    html_page.heading("What was counted"),
    html_page.card_row(_figures(results.result)),
    *_skipped_lists(results),
    *samples.odd_answers(results),
  ]


def _figures(result: dict[str, Any]) -> list[Markup]:
  """A box for each count."""
  asked = html_page.counted(result["total"], "question")
  figures = [
    ("Answered", result["questions"], f"of {asked}"),
    ("Skipped", result["skipped"], "not in the score"),
    ("Not understood", result["unparsed"], _share(result, "unparsed")),
    ("Empty", result["empty"], _share(result, "empty")),
    ("Degenerate", result["degenerate"], "symbols or repeats"),
    ("Bad media", len(result["bad_media"]), "missing or damaged"),
  ]
  if result["pending"]:
    figures.append(("Waiting", result["pending"], "start the command again to score them"))
  if result["unscored"]:
    figures.append(("Not scored", result["unscored"], "the publisher keeps the answer"))
  cards = []
  for name, count, remark in figures:
    cards.append(html_page.number_card(name, f"{count:,}", remark))
  return cards


def _share(result: dict[str, Any], name: str) -> str:
  """A count as a share of the answers."""
  if not result["questions"]:
    return ""
  share = result[name] / result["questions"]
  return f"{100 * share:.1f} % of the answers"


def _skipped_lists(results: Results) -> list[Markup]:
  """Folded lists of what was skipped and why.

  A benchmark that forbids its text shows ids alone: a reason may quote a record.
  """
  result = results.result
  if not results.shows_text:
    ids = [_skipped_id(entry) for entry in result["skipped_questions"]]
    return _folded_list("Skipped questions", ids)
  bad_media = [f"{medium}: {reason}" for medium, reason in result["bad_media"].items()]
  return [
    *_folded_list("Skipped questions", list(map(_skipped_reason, result["skipped_questions"]))),
    *_folded_list("Bad media", bad_media),
    *_folded_list("Bad questions", result["bad_questions"]),
    *_folded_list("Bad records", result["bad_records"]),
  ]


def _skipped_id(entry: Any) -> Any:
  return entry.get("id") if isinstance(entry, dict) else ""


def _skipped_reason(entry: Any) -> str:
  if not isinstance(entry, dict):
    return str(entry)
  return f"{entry.get('id')}: {entry.get('reason')}"


def _folded_list(title: str, items: Sequence[Any]) -> list[Markup]:
  """A folded list; [] without items."""
  if not items:
    return []
  lines = list(map(short_text, items[:MOST_LISTED]))
  rest = len(items) - MOST_LISTED
  if rest > 0:
    lines.append(f"and {rest:,} more in result.json")
  return [html_page.folded(f"{title} ({len(items):,})", html_page.bullet_list(lines))]
