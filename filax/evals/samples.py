# SPDX-License-Identifier: Apache-2.0
"""Sample questions with pictures, and samples of odd answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from filax.evals import html_page, shown_rows
from filax.evals.html_page import Markup, element
from filax.evals.results import Results
from filax.evals.thumbnails import MOST, Thumbnails, make_thumbnails

MOST_ODD = 12  # Of each kind of odd answer.
Row = Mapping[str, Any]


def pick_samples(answers: Sequence[Row], most: int = MOST) -> list[Row]:
  """Rows of every verdict by turns, of different media and from the whole set."""
  groups: dict[str, list[Row]] = {}
  for row in answers:
    groups.setdefault(shown_rows.verdict(row), []).append(row)
  spread = [evenly_spaced(rows, most) for rows in groups.values()]
  picked: list[Row] = []
  media = set()
  for place in range(most):
    for rows in spread:
      if place >= len(rows) or len(picked) == most:
        continue
      medium = rows[place].get("media")
      if medium and medium in media:
        continue
      media.add(medium)
      picked.append(rows[place])
  return picked


def evenly_spaced(rows: Sequence[Row], most: int) -> list[Row]:
  """At most `most` rows at even distances."""
  count = min(most, len(rows))
  return [rows[place * len(rows) // count] for place in range(count)]


def sample_section(results: Results) -> list[Markup]:
  """Sample questions with a picture of their medium; [] where the licence forbids it."""
  if not results.result["shows_text"] or not results.answers:
    return []
  rows = pick_samples(results.answers)
  thumbnails = make_thumbnails(media_paths(rows))
  cards = []
  for row in rows:
    answer = element("div", answer_text(row))
    cards.append(sample_card(row, thumbnails, [answer]))
  return [
    element("h2", "Sample answers"),
    element("div", *cards, class_="samples"),
    *unreadable_note(thumbnails),
  ]


def media_paths(rows: Iterable[Row]) -> list[str]:
  """The media of rows; questions about words alone have none."""
  paths = [str(row.get("media") or "") for row in rows]
  return [path for path in paths if path]


def unreadable_note(thumbnails: Thumbnails) -> list[Markup]:
  """How many samples have no picture because their medium is gone."""
  count = len(thumbnails.unreadable)
  if not count:
    return []
  media = html_page.counted(count, "medium").replace("mediums", "media")
  sentence = f"{media} of these samples could not be read any more: no picture."
  return [element("p", sentence, class_="faint")]


def thumbnail_image(row: Row, thumbnails: Thumbnails) -> list[Markup]:
  """The picture of a row's medium; [] without one."""
  url = thumbnails.urls.get(str(row.get("media") or ""))
  if not url:
    return []
  name = shown_rows.medium_name(row, shows_text=True)
  return [element("img", src=url, alt=name, title=name)]


def sample_card(row: Row, thumbnails: Thumbnails, answers: Iterable[Markup]) -> Markup:
  """A question with its picture, its right answer and the generated ones."""
  lines = [
    element("div", shown_rows.shown_question(row, True), class_="question"),
    *answers,
    element("div", f"expected: {shown_rows.shown_expected(row, True)}", class_="faint"),
    element("div", _origin(row), class_="faint small"),
  ]
  return html_page.card(*thumbnail_image(row, thumbnails), element("div", *lines, class_="text"))


def answer_text(row: Row) -> Markup:
  """The generated text and its verdict."""
  verdict = shown_rows.verdict(row)
  text = shown_rows.shown_answer(row, True) or "(empty)"
  return html_page.joined(
    [
      element("b", text, data_value=verdict),
      element("span", f" {verdict}", class_="faint"),
    ]
  )


def _origin(row: Row) -> str:
  names = [shown_rows.shortened(row["id"]), shown_rows.medium_name(row, shows_text=True)]
  return " · ".join(dict.fromkeys(filter(None, names)))


def odd_answers(results: Results) -> list[Markup]:
  """Folded samples of answers that were not understood, and of degenerate ones."""
  unparsed = [row for row in results.answers if not row["parsed"]]
  degenerate = [row for row in results.answers if row.get("flag")]
  shows_text = results.result["shows_text"]
  parts = odd_list("Answers that were not understood", unparsed, shows_text)
  return parts + odd_list("Degenerate answers", degenerate, shows_text)


def odd_list(title: str, rows: Sequence[Row], shows_text: bool) -> list[Markup]:
  """A folded table of the first odd answers; [] without any."""
  if not rows:
    return []
  lines = []
  for row in rows[:MOST_ODD]:
    answer = shown_rows.shown_answer(row, shows_text) if shows_text else "not shown"
    lines.append([shown_rows.shortened(row["id"]), answer, shown_rows.flag_words(row)])
  heading = f"{title} ({len(rows):,})"
  if len(rows) > MOST_ODD:
    heading = f"{title} ({MOST_ODD} of {len(rows):,})"
  return [html_page.folded(heading, html_page.table(["id", "answer", ""], lines, class_="words"))]
