# SPDX-License-Identifier: Apache-2.0
"""Scores in the published shape, controls beside chance."""

import io

import pytest

from filax.evals.needle import figures, results
from filax.evals.needle.protocols import (
  PROTOCOLS,
  SYSTEM,
  comparison_text,
  find_needle_protocol,
  incomparable_reasons,
)


def row(frames=1000, depth=0.0, item="0", name="", score=1.0, **more):
  return dict(frames=frames, depth=depth, item=item, name=name, score=score, control="") | more


PAIRS = [
  row(item=str(item), name=name, depth=None, score=score)
  for item, scores in enumerate([(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
  for name, score in zip(("CAP", "QA"), scores, strict=True)
]


def test_single_hop_in_the_published_shape():
  rows = [row(depth=0.6000000000000001), row(depth=0.6000000000000001, item="1", score=0.0)]
  assert results.single_hop_table(rows) == [{"Num. Frame": 1000, "Frame Depth": 60.0, "Score": 0.5}]


def test_depths_between_tens_stay_apart():
  assert [results.depth_percent(depth) for depth in (0.25, 0.2, 1 / 3)] == [25.0, 20.0, 33.33]


def test_the_average_is_over_cells():
  rows = [row(), row(depth=1.0, score=0.0), row(depth=1.0, item="1", score=0.0)]
  scores = results.single_hop_scores(rows)
  assert scores["accuracy"] == 0.5
  assert scores["micro"] == pytest.approx(1 / 3)


def test_multi_hop_in_the_published_shape():
  assert results.multi_hop_table(PAIRS) == [
    {
      "Num. Frame": 1000,
      "Score": 0.5,
      "Caption Score": 0.5,
      "QA Score": 0.5,
      "Total question pair": 4,
      "Both correct": 1,
      "Only cap correct": 1,
      "Only qa correct": 1,
      "Both wrong": 1,
    }
  ]


def test_qa_of_the_paper_is_joint():
  scores = results.multi_hop_scores(PAIRS)
  assert scores["QA"] == scores["joint"] == 0.25
  assert scores["QA Score"] == 0.5


def test_an_item_with_one_answer_is_no_pair():
  assert results.question_pairs(PAIRS[:3]) == [(True, True)]


def test_a_control_far_above_chance_is_marked():
  rows = [row(item=str(item)) for item in range(20)]
  chances = {f"{item}#": 0.25 for item in range(20)}
  assert results.control_report(rows, chances, False)["above_chance"] is True


def test_a_control_near_chance_is_not_marked():
  rows = [row(item=str(item), score=float(item % 4 == 0)) for item in range(20)]
  chances = {f"{item}#": 0.25 for item in range(20)}
  assert results.control_report(rows, chances, False)["above_chance"] is False


def test_one_question_at_many_lengths_counts_once():
  rows = [row(frames=frames) for frames in range(100, 2000, 100)]
  assert results.control_report(rows, {"0#": 0.25}, False)["above_chance"] is False


def test_unknown_chance_is_no_verdict():
  assert results.control_report([row()], {"0#": None}, False)["above_chance"] is None


def test_the_tail_of_guessing():
  assert results.binomial_tail(0, 5, 0.25) == pytest.approx(1.0)
  assert results.binomial_tail(5, 5, 0.25) == pytest.approx(0.25**5)


def test_chance_is_known_for_thousands_of_needles():
  assert results.binomial_tail(500, 2_000, 0.25) == pytest.approx(0.5, abs=0.02)
  assert results.binomial_tail(2_000, 2_000, 0.25) == 0.0


def test_brackets_and_case_do_not_matter():
  assert comparison_text("(A)") == comparison_text("a")


def test_multi_hop_is_of_one_protocol():
  with pytest.raises(ValueError, match="vcf with --multi-hop"):
    find_needle_protocol("longva", True)


def test_figures_are_pictures():
  shown = dict(
    benchmark="niah",
    protocol="vcf",
    metric="accuracy",
    scores=dict(accuracy=0.5),
    settings=dict(tokens_per_frame=16.0),
    controls={},
    chance=0.25,
  )
  file = io.BytesIO()
  figures.draw_heat_map(results.single_hop_table([row(), row(frames=2000, depth=0.5)]), shown, file)
  assert file.getvalue().startswith(b"\x89PNG")
  file = io.BytesIO()
  figures.draw_lines(results.multi_hop_table(PAIRS), shown, file)
  assert file.getvalue().startswith(b"\x89PNG")


def reasons(**changes):
  """Why a run that follows the protocol, but for `changes`, does not compare."""
  protocol = PROTOCOLS["vcf"]
  facts = dict(
    lengths=protocol.lengths,
    depths=protocol.depths,
    items=20,
    drawn=False,
    haystack="data/video_haystack.mkv",
    dropout=False,
    prompt=dict(template="chatml", system=SYSTEM),
  )
  return incomparable_reasons(protocol, **(facts | changes))


def test_the_published_setting_is_comparable():
  assert reasons() == []


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (dict(lengths=(1000,)), "1000, 2000, ..., 10000"),
    (dict(depths=(0.5,)), "0, 0.2, ..., 1"),
    (dict(items=19), "19 of 20"),
    (dict(drawn=True), "drawn cards"),
    (dict(haystack=""), "video_haystack.mkv"),
    (dict(haystack="film.mp4"), "video_haystack.mkv"),
    (dict(dropout=True), "dropout"),
    (dict(prompt=dict(template="brief", system="")), "ChatML"),
  ],
)
def test_every_difference_is_a_reason(change, words):
  (reason,) = reasons(**change)
  assert words in reason
