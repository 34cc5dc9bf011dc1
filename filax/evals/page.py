# SPDX-License-Identifier: Apache-2.0
"""page.html: one evaluation on a page of its own."""

from collections.abc import Iterator, Mapping, Sequence
import os
import pathlib
from typing import Any

from filax import files
from filax.evals import html_page, samples, score_bars, shown_rows
from filax.evals.duration_groups import score_columns
from filax.evals.html_page import Markup, element
from filax.evals.question_table import Cell, TableColumn, question_table, script
from filax.evals.resampling import mean_error, media_units
from filax.evals.results import PAGE, Results, read_results

MOST_LISTED = 100  # Of skipped questions and unreadable media.
SETTINGS = dict(
  frames="candidate frames",
  fps="frames a second",
  selector="selector",
  tokens_per_frame="tokens a frame",
  dropout="visual dropout",
  dtype="dtype",
  decoder="decoder",
  max_new_tokens="longest answer, tokens",
  temperature="temperature",
  batch="prompts at a time",
  mesh="mesh",
)


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
  result = results.result
  parts = [
    element("h1", result["benchmark"]),
    element("p", introduction(results), class_="faint"),
    *_warnings(results),
    score_bars.headline_card(results, _spread(results)),
  ]
  others = {name: value for name, value in result["scores"].items() if name != result["metric"]}
  if others:
    parts += [element("h2", "Other averages"), score_bars.score_cards(others)]
  parts += _score_sections(results)
  parts += _counts(results)
  parts += samples.sample_section(results)
  if results.answers:
    parts += [element("h2", "Questions"), *_question_section(results)]
  parts += _settings_section(result)
  title = f"{result['benchmark']}: {html_page.points(results.headline)}"
  return html_page.whole_page(title, parts, script=script())


def introduction(results: Results) -> str:
  """What was asked of what, in a sentence."""
  result = results.result
  protocol = f"protocol {result['protocol']}" if result["protocol"] else "no named protocol"
  if result["protocol_version"]:
    protocol += f" ({result['protocol_version']})"
  questions = html_page.counted(result["questions"], "question")
  videos = html_page.counted(result["videos"], "video")
  blind = ", shown grey pictures" if result["blind"] else ""
  checkpoint = result["checkpoint"] or "an unnamed checkpoint"
  return f"{checkpoint} answered {questions} about {videos} under {protocol}{blind}."


def _warnings(results: Results) -> list[Markup]:
  """What a reader must know before the numbers."""
  result = results.result
  sentences = list(results.notes)
  if not result["finished"]:
    done = result["questions"] + result["skipped"]
    sentences.insert(
      0, f"The run has not finished: {done:,} of {result['total']:,} questions so far."
    )
  if not sentences:
    return []
  return [element("div", html_page.bullet_list(sentences), class_="card warn"), Markup("<br>")]


def _spread(results: Results) -> str:
  """The 95 % interval of a mean over questions; "" of another headline."""
  scores = [row["score"] for row in results.scored]
  if len(scores) < 2 or results.headline is None:
    return ""
  if abs(sum(scores) / len(scores) - results.headline) > 5e-4:
    return ""
  units = media_units(results.scored)
  return f"± {196 * mean_error(scores, units):.1f} (95 %, by video)"


def _score_sections(results: Results) -> list[Markup]:
  """Bars for each column, with a table where a metric has several averages."""
  parts = []
  for column, groups in score_columns(results).items():
    if not groups:
      continue
    lines = score_bars.column_groups([groups])
    bars = html_page.card(score_bars.score_bars(lines, chance=results.result["chance"]))
    parts += [element("h2", f"By {_words(column)}"), bars, *_average_table(column, groups)]
  return parts


def _average_table(column: str, groups: Mapping[str, Mapping[str, Any]]) -> list[Markup]:
  """All averages of each group, if there are others than accuracy."""
  names: dict[str, None] = {}
  for group in groups.values():
    names.update(dict.fromkeys(group))
  others = [name for name in names if name not in ("accuracy", "questions")]
  if not others:
    return []
  rows = []
  for value, group in groups.items():
    scores = [html_page.points(_number(group.get(name))) for name in others]
    rows.append([value or "(none)", *scores, f"{group['questions']:,}"])
  table = html_page.table([_words(column), *others, "questions"], rows)
  return [html_page.folded("All averages", table)]


def _number(value: Any) -> float | None:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return value if is_number else None


def _words(column: str) -> str:
  return column.replace("_", " ")


def _counts(results: Results) -> list[Markup]:
  """What was skipped or not understood, in figures and lists."""
  result = results.result
  share = "of the answers" if result["questions"] else ""
  figures = (
    ("Answered", result["questions"], f"of {html_page.counted(result['total'], 'question')}"),
    ("Skipped", result["skipped"], "not asked, not in the score"),
    ("Not understood", result["unparsed"], f"{_percent(result, 'unparsed')} {share}"),
    ("Empty", result["empty"], f"{_percent(result, 'empty')} {share}"),
    ("Degenerate", result["degenerate"], "symbols or repeats"),
    ("Bad media", len(result["bad_media"]), "missing or damaged"),
  )
  cards = [html_page.number_card(name, f"{count:,}", note) for name, count, note in figures]
  parts = [element("h2", "What was counted"), html_page.card_row(cards), Markup("<br>")]
  return parts + _skipped_lists(result) + samples.odd_answers(results)


def _percent(result: Mapping[str, Any], name: str) -> str:
  if not result["questions"]:
    return ""
  return f"{100 * result[name] / result['questions']:.1f} %"


def _skipped_lists(result: Mapping[str, Any]) -> list[Markup]:
  """Folded lists of what was skipped and why.

  A benchmark that forbids its text shows ids alone: a reason may quote a record.
  """
  skipped = []
  for entry in result["skipped_questions"]:
    reason = f": {shown_rows.shortened(entry.get('reason', ''))}" if result["shows_text"] else ""
    skipped.append(f"{entry.get('id', '')}{reason}")
  lists = {"Skipped questions": skipped}
  if result["shows_text"]:
    lists["Bad media"] = [f"{name}: {reason}" for name, reason in result["bad_media"].items()]
    lists["Bad questions"] = result["bad_questions"]
    lists["Bad records"] = result["bad_records"]
  parts = []
  for title, items in lists.items():
    if items:
      rest = len(items) - MOST_LISTED
      more = [f"and {rest:,} more in result.json"] if rest > 0 else []
      shown = [shown_rows.shortened(item) for item in items[:MOST_LISTED]]
      parts.append(
        html_page.folded(f"{title} ({len(items):,})", html_page.bullet_list(shown + more))
      )
  return parts


def _question_section(results: Results) -> list[Markup]:
  """The table of all questions."""
  shows_text = results.result["shows_text"]
  columns = [TableColumn("id", "id")]
  if shows_text:
    columns += [TableColumn("question", "question"), TableColumn("answer"), TableColumn("expected")]
  else:
    columns.append(TableColumn("letter"))
  columns.append(TableColumn("verdict", "choice"))
  has_overlap = any("iou" in row for row in results.answers)
  if has_overlap:
    columns.append(TableColumn("IoU"))
  columns.append(TableColumn("degenerate", "choice"))
  by = list(results.result["by"]) if shows_text else []
  columns += [TableColumn(_words(column), "choice") for column in by]
  rows = _question_rows(results.answers, shows_text, has_overlap, by)
  parts = [question_table("questions", columns, rows, len(results.answers))]
  if not shows_text:
    sentence = (
      "The licence of this benchmark forbids its texts and pictures on pages: ids, letters and "
      "verdicts only."
    )
    parts.insert(0, element("p", sentence, class_="faint"))
  return parts


def _question_rows(
  answers: Sequence[Mapping[str, Any]], shows_text: bool, has_overlap: bool, by: Sequence[str]
) -> Iterator[list[Cell]]:
  """The cells of each question, in the order of _question_section's columns."""
  for row in answers:
    cells: list[Cell] = [shown_rows.shortened(row["id"])]
    if shows_text:
      cells.append(shown_rows.shown_question(row, shows_text))
    cells.append(shown_rows.shown_answer(row, shows_text))
    if shows_text:
      cells.append(shown_rows.shown_expected(row, shows_text))
    cells.append(shown_rows.verdict(row))
    if has_overlap:
      cells.append(html_page.points(_number(row.get("iou"))))
    cells.append(shown_rows.flag_words(row))
    cells += [shown_rows.column_values(row, column) for column in by]
    yield cells


def _settings_section(result: Mapping[str, Any]) -> list[Markup]:
  """Everything that a second run needs, and what the first one took."""
  named: dict[str, Any] = {
    "benchmark": result["benchmark"],
    "protocol": f"{result['protocol']} {result['protocol_version']}".strip(),
    "checkpoint": result["checkpoint"],
    "data": result["manifest"],
    "FiLax": result["filax"],
  }
  settings = dict(selector=result["selector"], frames=result["frames"]) | result["settings"]
  for name, value in settings.items():
    named[SETTINGS.get(name, _words(name))] = _setting(value)
  for name, value in result["seconds"].items():
    named[f"seconds: {name}"] = f"{value:,.1f}"
  if result["idle_share"] is not None:
    named["share of time that the device waited"] = f"{100 * result['idle_share']:.0f} %"
  if result["compilations"] is not None:
    named["compiled programs"] = result["compilations"]
  parts = [element("h2", "Settings"), html_page.words_table(named)]
  if result["shows_text"] and result["first_prompt"]:
    prompt = element("pre", result["first_prompt"])
    parts.append(html_page.folded("Prompt of the first question", prompt))
  hashes = _hash_rows(result["hashes"])
  if hashes:
    parts.append(html_page.folded("Hashes", html_page.words_table(hashes)))
  return parts


def _setting(value: Any) -> str:
  if isinstance(value, Mapping):
    return ", ".join([f"{name}={inner}" for name, inner in value.items()])
  return "" if value is None else str(value)


def _hash_rows(hashes: Mapping[str, Any]) -> dict[str, str]:
  """A row for the checkpoint and for each annotation file."""
  rows: dict[str, str] = {}
  for name, value in hashes.items():
    if isinstance(value, Mapping):
      for file, digest in value.items():
        rows[str(file)] = str(digest)
    elif value:
      rows[name] = str(value)
  return rows
