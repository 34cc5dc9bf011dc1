# SPDX-License-Identifier: Apache-2.0
"""Sample questions with pictures, and samples of odd answers."""

from collections.abc import Iterable, Sequence

from filax.evals import html_page, shown_rows
from filax.evals.html_page import Markup, element
from filax.evals.results import Results, Row
from filax.evals.thumbnails import MOST, Thumbnails, make_thumbnails

MOST_ODD = 12  # The most samples of each kind of odd answer.


def pick_samples(answers: Sequence[Row], most: int = MOST) -> list[Row]:
  """Rows of every verdict by turns, of different media."""
  groups: dict[str, list[Row]] = {}
  for row in answers:
    groups.setdefault(shown_rows.verdict(row), []).append(row)
  by_verdict = [evenly_spaced(rows, most) for rows in groups.values()]
  picked: list[Row] = []
  media: set[str] = set()
  for place in range(most):
    for rows in by_verdict:
      if place < len(rows):
        _add_sample(picked, rows[place], media)
  return picked[:most]


def evenly_spaced(rows: Sequence[Row], most: int) -> list[Row]:
  """At most `most` rows at even distances."""
  count = min(most, len(rows))
  return [rows[place * len(rows) // count] for place in range(count)]


def _add_sample(picked: list[Row], row: Row, media: set[str]) -> None:
  """Adds a row unless its medium is among `media`."""
  medium = shown_rows.medium_path(row)
  if medium in media:
    return
  if medium:
    media.add(medium)
  picked.append(row)


def sample_section(results: Results) -> list[Markup]:
  """Sample questions with pictures; [] where the licence forbids it."""
  if not results.shows_text or not results.answers:
    return []
  rows = pick_samples(results.answers)
  answers = []
  for row in rows:
    line = element("div", answer_text(row))
    answers.append([line])
  return [html_page.heading("Sample answers"), *sample_cards(rows, answers)]


def sample_cards(rows: Sequence[Row], answers: Sequence[Sequence[Markup]]) -> list[Markup]:
  """Boxes of questions, each with its picture and its `answers`."""
  paths = filter(None, map(shown_rows.medium_path, rows))
  thumbnails = make_thumbnails(paths)
  cards = []
  for row, lines in zip(rows, answers, strict=True):
    cards.append(_sample_card(row, thumbnails, lines))
  parts = [element("div", *cards, class_="samples")]
  count = len(thumbnails.unreadable)
  if count:
    parts.append(
      html_page.note(f"Without a picture, because the medium could not be read: {count}.")
    )
  return parts


def answer_text(row: Row) -> Markup:
  """The generated text and its verdict."""
  verdict = shown_rows.verdict(row)
  text = shown_rows.shown_answer(row, shows_text=True) or "(empty)"
  answer = element("b", text, data_value=verdict)
  remark = element("span", f" {verdict}", class_="faint")
  return html_page.joined([answer, remark])


def _sample_card(row: Row, thumbnails: Thumbnails, answers: Iterable[Markup]) -> Markup:
  """A question with its picture, the generated answers and the right one."""
  question = shown_rows.shown_question(row, shows_text=True)
  expected = shown_rows.shown_expected(row, shows_text=True)
  name = shown_rows.medium_name(row)
  origin = f"{shown_rows.short_text(row['id'])} {name}"
  text = element(
    "div",
    element("div", question, class_="question"),
    *answers,
    element("div", f"expected: {expected}", class_="faint"),
    element("div", origin, class_="faint small"),
    class_="text",
  )
  url = thumbnails.urls.get(shown_rows.medium_path(row))
  if not url:
    return html_page.card(text)
  return html_page.card(element("img", src=url, alt=name), text)


def odd_answers(results: Results) -> list[Markup]:
  """Folded samples of answers that were not understood, and of degenerate ones."""
  unparsed = []
  degenerate = []
  for row in results.answers:
    if not row["parsed"] and not row.get("pending"):
      unparsed.append(row)
    if row.get("flag"):
      degenerate.append(row)
  parts = _odd_list("Answers that were not understood", unparsed, results.shows_text)
  parts += _odd_list("Degenerate answers", degenerate, results.shows_text)
  return parts


def _odd_list(title: str, rows: Sequence[Row], shows_text: bool) -> list[Markup]:
  """A folded table of the first odd answers; [] without any."""
  if not rows:
    return []
  lines = []
  for row in rows[:MOST_ODD]:
    name = shown_rows.short_text(row["id"])
    answer = shown_rows.shown_answer(row, shows_text)
    lines.append((name, answer, shown_rows.flag_words(row)))
  count = f"{len(rows):,}"
  if len(rows) > MOST_ODD:
    count = f"{MOST_ODD} of {count}"
  table = html_page.table(("id", "answer", ""), lines, class_="words")
  return [html_page.folded(f"{title} ({count})", table)]
