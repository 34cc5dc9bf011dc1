# SPDX-License-Identifier: Apache-2.0
"""page.html: what it shows, what it must not show, and that no text becomes HTML."""

from html.parser import HTMLParser
import json

import pytest

from filax.evals import page, question_table, thumbnails
from filax.evals.html_page import json_block, markup, points, resource, whole_page
from filax.evals.results import read_results
from filax.evals.samples import pick_samples
from filax.evals.shown_rows import MOST_CHARACTERS, shown_expected, verdict
from filax.testing import clips
from filax.testing.evaluation_results import (
  answer_row,
  answer_rows,
  grounding_rows,
  write_results,
)

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&"
SECRET = "secretword"


class Elements(HTMLParser):
  """The elements of a page, its texts, and its JSON blocks."""

  def __init__(self, text):
    super().__init__()
    self.elements = []
    self.texts = []
    self.blocks = {}
    self._open = None
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag == "script":
      self._open = dict(attrs)

  def handle_endtag(self, tag):
    if tag == "script":
      self._open = None

  def handle_data(self, data):
    if self._open is None:
      self.texts.append(data)
    elif self._open.get("type") == "application/json":
      self.blocks[self._open["id"]] = json.loads(data)

  @property
  def text(self):
    return " ".join(" ".join(self.texts).split())

  def attributes(self, name):
    return [attributes[name] for _, attributes in self.elements if name in attributes]


def written(folder, rows, **fields):
  """The text of the page of some answers."""
  path = page.write_page(write_results(folder, rows, **fields))
  return path.read_text("utf-8")


def table_rows(text):
  """The rows of the table of questions, choices in words."""
  block = Elements(text).blocks["questions"]
  rows = []
  for packed in block["rows"]:
    row = {}
    for column, cell in zip(block["columns"], packed, strict=True):
      if column["kind"] == "choice":
        numbers = cell if isinstance(cell, list) else [cell]
        cell = [column["values"][number] for number in numbers]
      row[column["title"]] = cell
    rows.append(row)
  return rows


def test_the_page_shows_score_chance_and_protocol(tmp_path):
  rows = [answer_row(i, right=i < 6) for i in range(8)]
  text = Elements(written(tmp_path, rows)).text
  assert "75.0 %" in text
  assert "guessing gives 25.0" in text
  assert "vcf (VideoChat-Flash 2f8e2f5)" in text
  assert " comparable All questions were answered" in text


def test_reasons_stand_beside_a_score_that_is_not_comparable(tmp_path):
  reasons = ["12 questions were skipped."]
  text = Elements(written(tmp_path, answer_rows(8), comparable=False, reasons=reasons)).text
  assert "not comparable 12 questions were skipped." in text


def test_the_page_loads_nothing(tmp_path):
  text = written(tmp_path, answer_rows(40))
  sources = Elements(text).attributes("src") + Elements(text).attributes("href")
  assert all(source.startswith("data:") for source in sources)
  assert "default-src 'none'" in text
  assert "http://" not in text and "https://" not in text and "@import" not in text


def test_the_page_is_for_light_and_dark_and_for_phones(tmp_path):
  text = written(tmp_path, answer_rows(8))
  assert "prefers-color-scheme: dark" in text
  assert 'name="viewport"' in text and "max-width: 700px" in text


@pytest.mark.parametrize(
  "field", ["id", "question", "answer", "expected", "task", "choice", "flag"]
)
def test_no_text_of_an_answer_becomes_an_element(tmp_path, field):
  clean = Elements(written(tmp_path / "clean", [answer_row(0), answer_row(1, False)]))
  row = answer_row(1, False, **{field: ATTACK})
  attacked = Elements(written(tmp_path / "attacked", [answer_row(0), row]))
  assert [tag for tag, _ in attacked.elements].count("script") == 2  # The rows and our script.
  assert not attacked.attributes("onerror")
  kinds = {tag for tag, _ in attacked.elements}
  assert kinds - {tag for tag, _ in clean.elements} <= {"details", "summary", "th"}  # Odd answers.


@pytest.mark.parametrize(
  "fields",
  [
    dict(benchmark=ATTACK),
    dict(checkpoint=ATTACK, protocol=ATTACK, note=ATTACK, first_prompt=ATTACK),
    dict(reasons=[ATTACK], comparable=False),
    dict(settings={ATTACK: ATTACK}, hashes={"annotations": {ATTACK: ATTACK}}),
    dict(bad_media={ATTACK: ATTACK}, skipped_questions=[dict(id=ATTACK, reason=ATTACK)]),
    dict(scores={"accuracy": 0.5, ATTACK: 0.5}),
    dict(by={ATTACK: {ATTACK: dict(accuracy=0.5, questions=2)}}),
  ],
)
def test_no_text_of_a_result_becomes_an_element(tmp_path, fields):
  elements = Elements(written(tmp_path, answer_rows(3), **fields))
  assert [tag for tag, _ in elements.elements].count("script") == 2
  assert "img" not in {tag for tag, _ in elements.elements}


def test_json_cannot_end_its_block():
  block = json_block("rows", [ATTACK, "<!--", "\u2028", "]]>"])
  assert "<" not in block.removeprefix("<script").removesuffix("</script>")
  assert Elements(block).blocks["rows"] == [ATTACK, "<!--", "\u2028", "]]>"]


def test_only_the_own_script_may_run():
  assert "script-src 'none'" in whole_page("x", [])
  assert "script-src 'sha256-" in whole_page("x", [], script="1")


@pytest.mark.parametrize("text", ["a\x00b", "a\x1b[31mb", "a\x7fb", "a\ud800b", "a\x0cb"])
def test_characters_that_no_page_holds_are_replaced(tmp_path, text):
  rows = [answer_row(0, answer=text)]
  shown = table_rows(written(tmp_path, rows))[0]["answer"]
  assert shown.startswith("a\N{REPLACEMENT CHARACTER}")
  assert "\N{REPLACEMENT CHARACTER}" in markup(text)


def test_other_scripts_are_shown(tmp_path):
  rows = [answer_row(0, answer="猫は三匹 😀", question="كم عدد القطط؟", task="计数")]
  row = table_rows(written(tmp_path, rows))[0]
  assert (row["answer"], row["question"], row["task"]) == ("猫は三匹 😀", "كم عدد القطط؟", ["计数"])


def test_a_forbidden_text_is_nowhere_on_the_page(tmp_path):
  video = clips.write_video(tmp_path / f"{SECRET}.mp4", 4)
  keys = dict(question=SECRET, expected=SECRET, answer=f"B. {SECRET}", media=video, task=SECRET)
  rows = [
    answer_row(0, False, choice="B", **keys),
    answer_row(1, False, **keys | dict(choice=SECRET)),
    answer_row(2, False, parsed=False, flag="repeats", **keys | dict(choice=None)),
  ]
  text = written(
    tmp_path / "run",
    rows,
    shows_text=False,
    by={},
    first_prompt=SECRET,
    skipped_questions=[dict(id="q9", reason=SECRET)],
    skipped=1,
    bad_media={SECRET: SECRET},
    bad_questions=[SECRET],
    bad_records=[SECRET],
  )
  assert SECRET not in text
  assert "data:image" not in text and "<img" not in text


def test_a_forbidden_set_shows_ids_letters_and_verdicts(tmp_path):
  rows = [answer_row(0, choice="A"), answer_row(1, False, choice="(C)"), answer_row(2, choice="42")]
  shown = table_rows(written(tmp_path, rows, shows_text=False))
  assert [list(row.values()) for row in shown] == [
    ["q0", "A", ["right"]],
    ["q1", "C", ["wrong"]],
    ["q2", "", ["right"]],
  ]


def test_a_forbidden_set_still_shows_scores_by_column(tmp_path):
  text = Elements(written(tmp_path, answer_rows(30), shows_text=False)).text
  assert "By task" in text and "Counting" in text


@pytest.mark.parametrize(
  ("keys", "words"),
  [
    (dict(score=1.0), "right"),
    (dict(score=0.0), "wrong"),
    (dict(score=0.4), "partly right"),
    (dict(score=0.0, parsed=False), "not understood"),
    (dict(score=None), "not scored"),
  ],
)
def test_verdicts(keys, words):
  assert verdict(answer_row(0, **keys)) == words


def test_a_question_of_several_groups_is_found_in_each(tmp_path):
  rows = [answer_row(0) | dict(task=["Order", "Action"])]
  assert table_rows(written(tmp_path, rows))[0]["task"] == ["Order", "Action"]


def test_a_long_answer_is_cut(tmp_path):
  shown = table_rows(written(tmp_path, [answer_row(0, answer="x" * 5000)]))[0]["answer"]
  assert len(shown) == MOST_CHARACTERS + 1 and shown.endswith("…")


def test_odd_answers_are_counted_and_shown_apart(tmp_path):
  rows = [
    answer_row(0),
    answer_row(1, False, answer="", parsed=False, flag="empty"),
    answer_row(2, False, answer="!!!!!!", parsed=False, flag="symbols"),
  ]
  text = Elements(written(tmp_path, rows)).text
  assert "Not understood 2 66.7 % of the answers" in text
  assert "Empty 1" in text and "Degenerate 1" in text
  assert "Answers that were not understood (2)" in text
  assert "!!!!!! only symbols" in text


def test_skipped_questions_and_bad_media_are_listed(tmp_path):
  text = Elements(
    written(
      tmp_path,
      answer_rows(4),
      skipped=1,
      skipped_questions=[dict(id="q77", reason="v.mp4: does not exist.")],
      bad_media={"v.mp4": "v.mp4: does not exist."},
    )
  ).text
  assert "q77: v.mp4: does not exist." in text
  assert "Bad media (1)" in text


def test_an_unfinished_run_says_so(tmp_path):
  text = Elements(written(tmp_path, answer_rows(6), finished=False, total=20, skipped=1)).text
  assert "The run has not finished: 7 of 20 questions so far." in text


def test_a_run_without_answers_has_a_page(tmp_path):
  fields = dict(by={}, scores={"accuracy": None}, total=5)
  text = Elements(written(tmp_path, [], **fields)).text
  assert "0 questions" in text and "Questions" not in text.split()


def test_grounding_shows_its_averages_and_overlaps(tmp_path):
  text = written(tmp_path, grounding_rows(40), shows_text=False)
  assert "R@0.7" in Elements(text).text and "mIoU" in Elements(text).text
  assert "IoU" in table_rows(text)[0]


def test_settings_and_hashes_are_listed(tmp_path):
  text = Elements(written(tmp_path, answer_rows(4))).text
  for part in ("candidate frames 96", "visual dropout off", "dtype bfloat16", "data=1, seq=1"):
    assert part in text
  assert "cd" * 32 in text
  assert "Prompt of the first question How many cups stand on table 0?" in text


def test_large_sets_stay_small(tmp_path):
  rows = [answer_row(i, question="What happens? " * 12) for i in range(19_140)]
  text = written(tmp_path, rows)
  assert len(text.encode()) <= 10_000_000
  assert len(table_rows(text)) == 19_140
  assert len(Elements(text).elements) < 2000


def test_a_table_beyond_its_bound_names_its_part(tmp_path, monkeypatch):
  monkeypatch.setattr(question_table, "MOST_BYTES", 2000)
  text = written(tmp_path, answer_rows(200))
  kept = len(table_rows(text))
  assert 0 < kept < 200
  assert f"The table holds the first {kept} of 200; answers.jsonl has all." in text


def test_samples_show_the_middle_of_their_video(tmp_path):
  clips.write_video(tmp_path / "v.mp4", 20, fps=10, width=96, height=48)
  picture = thumbnails.middle_frame(str(tmp_path / "v.mp4"))
  assert picture.size == (256, 128)
  rows = [answer_row(0, media=str(tmp_path / "v.mp4"))]
  assert "data:image/jpeg;base64," in written(tmp_path / "run", rows)


def test_media_that_are_gone_are_counted(tmp_path):
  rows = [answer_row(3 * i, media=str(tmp_path / f"{i}.mp4")) for i in range(3)]
  text = written(tmp_path / "run", rows)
  assert "data:image" not in text
  assert "Without a picture, because the medium could not be read: 3." in text


@pytest.mark.parametrize("name", clips.BROKEN_VIDEOS)
def test_a_broken_medium_stops_no_page(tmp_path, name):
  write_broken, _ = clips.BROKEN_VIDEOS[name]
  medium = write_broken(tmp_path / name)
  made = thumbnails.make_thumbnails([medium])
  assert len(made.urls) + len(made.unreadable) == 1


def test_thumbnails_are_few(tmp_path):
  media = [clips.write_picture(tmp_path / f"{i}.png", i) for i in range(20)]
  assert len(thumbnails.make_thumbnails(media).urls) == thumbnails.MOST


def test_samples_hold_every_verdict_and_each_medium_once():
  rows = [answer_row(i, right=i % 10 > 0) for i in range(300)]
  picked = pick_samples(rows)
  assert len(picked) == 12
  assert {row["score"] for row in picked} == {0.0, 1.0}
  assert len({row["media"] for row in picked}) == 12


def test_the_interval_is_that_of_the_mean(tmp_path):
  rows = [answer_row(3 * i, right=i % 2 == 0) for i in range(100)]  # A video each.
  results = read_results(write_results(tmp_path, rows))
  assert page.score_spread(results) == "± 9.8 (95 %, by video)"  # 196 · sqrt(0.25 / 99)


@pytest.mark.parametrize(
  ("score", "words"),
  [(0.6234, "62.3"), (1.0, "100.0"), (0.0, "0.0"), (1.37, "1.37"), (None, "\N{EN DASH}")],
)
def test_scores_are_in_points(score, words):
  assert points(score) == words


def test_bars_are_printed_without_background_graphics():
  _, _, on_paper = resource("page.css").partition("@media print {")
  assert ".bars .fill" in on_paper and "print-color-adjust: exact" in on_paper


def test_equal_scores_have_no_interval(tmp_path):
  folder = write_results(tmp_path, answer_rows(30, 1.0))
  assert page.score_spread(read_results(folder)) == ""
  folder = write_results(tmp_path, answer_rows(30, 0.6))
  assert page.score_spread(read_results(folder)).startswith("± ")


def test_all_right_answers_are_shown():
  row = dict(expected="a dog", references=["a puppy", "a dog"])
  assert shown_expected(row, shows_text=True) == "a dog / a puppy"
  assert shown_expected(row, shows_text=False) == ""


def test_an_answer_that_waits_for_a_judge_is_neither_wrong_nor_misunderstood():
  assert verdict(dict(score=0.0, parsed=False, pending=True)) == "waiting"
