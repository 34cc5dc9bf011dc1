# SPDX-License-Identifier: Apache-2.0
"""page.html: one evaluation on a page of its own."""

import os
import pathlib

import numpy as np

from filax import files
from filax.evals import html_page, page_counts, page_questions, page_settings, resampling, samples
from filax.evals.duration_groups import score_columns
from filax.evals.html_page import Markup, element, heading, points
from filax.evals.needle.figures import HEAT_MAP, LINES
from filax.evals.question_table import table_script
from filax.evals.results import PAGE, Results, read_results
from filax.evals.score_bars import Groups, column_groups, score_chart

FIGURES = {HEAT_MAP: "Scores by length and depth", LINES: "Scores by length"}


def write_page(folder: str | os.PathLike) -> pathlib.Path:
  """Writes page.html into the folder of an evaluation; returns its path.

  Raises BadResults for another folder, OSError if it cannot be written.
  """
  results = read_results(folder)
  path = results.folder / PAGE
  with files.write_atomically(path) as file:
    file.write(evaluation_page(results).encode())
  return path


def evaluation_page(results: Results) -> str:
  """The HTML of an evaluation."""
  parts = [
    element("h1", results.benchmark),
    html_page.note(introduction(results)),
    *html_page.warning_card(page_warnings(results)),
    headline_card(results),
    *_figures(results),
    *_other_averages(results),
    *_columns(results),
    *page_counts.count_section(results),
    *samples.sample_section(results),
    *page_questions.question_section(results),
    *page_settings.settings_section(results),
  ]
  title = f"{results.benchmark}: {points(results.headline)}"
  return html_page.whole_page(title, parts, script=table_script())


def _figures(results: Results) -> list[Markup]:
  """The figures that a needle test has drawn."""
  cards = []
  for name, title in FIGURES.items():
    path = results.folder / name
    if path.exists():
      url = html_page.png_url(path.read_bytes())
      cards.append(html_page.card(element("img", src=url, alt=title)))
  return cards


def introduction(results: Results) -> str:
  """A sentence: which checkpoint answered how many questions, by which protocol."""
  result = results.result
  checkpoint = result["checkpoint"] or "An unnamed checkpoint"
  questions = html_page.counted(result["questions"], "question")
  videos = html_page.counted(result["videos"], "video")
  protocol = result["protocol"] or "no named protocol"
  version = result["protocol_version"]
  if version:
    protocol += f" ({version})"
  sentence = f"{checkpoint} answered {questions} about {videos}; protocol: {protocol}."
  if result["blind"]:
    sentence += " It was shown grey pictures."
  return sentence


def page_warnings(results: Results) -> list[str]:
  """What a reader must know before the numbers."""
  result = results.result
  if result["finished"]:
    return results.notes
  done = result["questions"] + result["skipped"]
  sentence = f"The run has not finished: {done:,} of {result['total']:,} questions so far."
  return [sentence, *results.notes]


def headline_card(results: Results) -> Markup:
  """The main score, and whether it is comparable with published numbers."""
  value = results.headline
  unit = ""
  if value is not None and abs(value) <= 1:
    unit = "%"
  number = element("div", points(value), element("span", unit, class_="unit"), class_="number")
  facts = [results.result["metric"], score_spread(results)]
  chance = results.result["chance"]
  if chance is not None:
    facts.append(f"guessing gives {points(chance)}")
  words = " · ".join(filter(None, facts))
  score = element("div", number, element("div", words, class_="faint"))
  columns = element("div", score, _comparable(results), class_="headline")
  return html_page.card(columns)


def score_spread(results: Results) -> str:
  """The 95 % interval of a plain mean; "" of another headline."""
  if results.headline is None or len(results.scored) < 2:
    return ""
  scores = np.asarray([row["score"] for row in results.scored], np.float64)
  is_mean = abs(scores.mean() - results.headline) < 5e-4
  error = resampling.mean_error(scores, resampling.media_units(results.scored))
  if not is_mean or not np.isfinite(error) or error == 0:  # Equal scores tell no error.
    return ""
  return f"± {100 * resampling.NORMAL_95 * error:.1f} (95 %, by video)"


def _comparable(results: Results) -> Markup:
  """The badge, and the reasons against a comparison."""
  result = results.result
  parts = []
  if result["comparable"]:
    parts.append(element("span", "comparable", class_="badge good"))
    sentence = f"All questions were answered under the protocol {result['protocol']}."
    parts.append(html_page.note(sentence))
  else:
    parts.append(element("span", "not comparable", class_="badge warn"))
    reasons = result["reasons"] or ["The run gives no reason."]
    parts.append(html_page.bullet_list(reasons))
  if result["note"]:
    parts.append(html_page.note(f"Note: {result['note']}"))
  return element("div", *parts)


def _other_averages(results: Results) -> list[Markup]:
  """A box for each score beside the main one."""
  cards = []
  for name, value in results.result["scores"].items():
    if name != results.result["metric"]:
      cards.append(html_page.number_card(name, points(value)))
  if not cards:
    return []
  return [heading("Other averages"), html_page.card_row(cards)]


def _columns(results: Results) -> list[Markup]:
  """Bars for each column, with a table of further averages."""
  chance = results.result["chance"]
  parts = []
  for column, groups in score_columns(results).items():
    if groups:
      title = html_page.column_title(column)
      parts.append(heading(f"By {title}"))
      parts.append(score_chart(column_groups([groups]), chance=chance))
      parts += _average_table(title, groups)
  return parts


def _average_table(title: str, groups: Groups) -> list[Markup]:
  """All averages of each group, if there are others than accuracy."""
  names: dict[str, None] = {}
  for group in groups.values():
    names |= dict.fromkeys(group)
  others = [name for name in names if name not in ("accuracy", "questions")]
  if not others:
    return []
  rows = []
  for value, group in groups.items():
    scores = [points(group.get(name)) for name in others]
    rows.append([value or "(none)", *scores, f"{group['questions']:,}"])
  table = html_page.table([title, *others, "questions"], rows)
  return [html_page.folded("All averages", table)]
