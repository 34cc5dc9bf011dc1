# SPDX-License-Identifier: Apache-2.0
"""Temporal grounding: spans in answers, by two published rules, and their overlap."""

import dataclasses
import math

import pytest
from question_examples import question_example

from filax.evals.metrics.grounding import Grounding
from filax.evals.metrics.spans import intersection_over_union, parse_span_lmms, parse_span_vcf

EXAMPLE = question_example("", span=(24.3, 30.4))
ROWS = [  # Text, VideoChat-Flash's span, lmms-eval's span.
  ("The event happens in the 24.3 - 30.4 seconds.", (24.3, 30.4), (24.3, 30.4)),
  ("The event happens from 5.0 to 9.0 seconds.", (5, 9), (5, 9)),
  ("starts at 3.5 seconds\nends at 7 seconds", (3.5, 7), (3.5, 7)),
  ("It starts at 2 and ends at 8.", None, None),
  ("The event happens in the 0:18 - 0:23.", (0, 18), (18, 23)),
  ("The event happens in the 5.0s - 9.0s", None, (5, 9)),
  ("It happens in 1. - 2.", (1, 2), None),
  ("The event 'person puts 2 - 3 cups' happens in the 4.0 - 6.0", (2, 3), (2, 3)),
]
FURTHER_ROWS = [
  ("", None, None),
  ("9.0 - 5.0", (5, 9), (5, 9)),
  ("5 \u2013 9", None, (5, 9)),  # An en dash.
  ("starts at 0:00:18!\nends at 0:01:23", (0, 0), (18, 83)),
  ("starts 01:02:03 ends", None, None),
  ("A specific example is : 20.8 - 30.0 seconds", None, None),
  ("1..5 - 6", None, (5, 6)),
  ("1 2 - 3. happens in 4 - 5", (2, 3), (2, 3)),
  ("1 - 2\nhappens in 4 - 5", (1, 2), (4, 5)),
]


@pytest.mark.parametrize(("text", "span", "_"), ROWS + FURTHER_ROWS)
def test_spans_of_videochat_flash(text, span, _):
  assert parse_span_vcf(text) == span


@pytest.mark.parametrize(("text", "_", "span"), ROWS + FURTHER_ROWS)
def test_spans_of_lmms_eval(text, _, span):
  assert parse_span_lmms(text) == span


@pytest.mark.parametrize(
  ("span", "iou"),
  [
    ((25, 31), 0.80597),
    ((24.3, 30.4), 1.0),
    ((40.4, 50.4), 0.0),
    ((30.4, 40), 0.0),
    ((26, 26), 0.0),
  ],
)
def test_overlap(span, iou):
  assert intersection_over_union((24.3, 30.4), span) == pytest.approx(iou, abs=1e-5)


def test_two_equal_points_have_no_overlap():
  assert intersection_over_union((3, 3), (3, 3)) == 0.0


def test_score_has_overlap_and_span():
  score = Grounding(parse_span_vcf).score("happens in the 25 - 31 seconds", EXAMPLE)
  assert score.iou == pytest.approx(0.80597, abs=1e-5)
  assert (score.value, score.answer) == (1.0, "25-31")


def test_no_span_has_no_overlap():
  score = Grounding(parse_span_vcf).score("I do not know.", EXAMPLE)
  assert (score.value, score.iou, score.parsed, score.empty) == (0.0, 0.0, False, False)


def test_averages_over_all_answers():
  metric = Grounding(parse_span_lmms)
  texts = ("24.3 - 30.4", "24.3 - 42.6", "no", "25 - 31")
  averages = metric.average([metric.score(text, EXAMPLE) for text in texts])
  third = 6.1 / 18.3
  assert averages == {
    "R@0.3": 0.75,
    "R@0.5": 0.5,
    "R@0.7": 0.5,
    "mIoU": pytest.approx((1 + third + 0.8059701) / 4),
  }


def test_an_overlap_of_a_half_is_enough():
  metric = Grounding(parse_span_vcf)
  score = metric.score("0 - 5", dataclasses.replace(EXAMPLE, span=(0.0, 10.0)))
  assert score.value == 1.0
  assert metric.average([score])["R@0.5"] == 1.0


def test_headline_is_an_average():
  metric = Grounding(parse_span_vcf)
  assert metric.headline in metric.average([metric.score("1 - 2", EXAMPLE)])


def test_digits_without_end_are_no_span():
  span = parse_span_vcf("9" * 400 + " - 5")
  assert span is None or all(map(math.isfinite, span))


def test_a_question_without_a_span_is_named():
  with pytest.raises(ValueError, match="1 has no right span"):
    Grounding(parse_span_vcf).score("1 - 2", question_example(""))
