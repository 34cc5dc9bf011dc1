# SPDX-License-Identifier: Apache-2.0
"""Counting: numbers in answers, and their errors."""

import pytest
from question_examples import question_example

from filax.evals.metrics.counting import Counting, counted_number
from filax.evals.metrics.numbers_in_words import numbers_of


@pytest.mark.parametrize(
  ("text", "numbers"),
  [
    ("3 of twenty-one", [3, 21]),
    ("Twenty, one", [20, 1]),
    ("twelve thirteen", [12, 13]),
    ("two hundred and fifty three", [253]),
    ("one hundred", [100]),
    ("3 dozen", [36]),
    ("a dozen", [12]),
    ("two thousand five", [2005]),
    ("1,000 and 1,2", [1000, 1, 2]),
    ("2.5", [2.5]),
    ("twice", [2]),
    ("zero and five", [0, 5]),
    ("someone", []),
    ("9" * 30, []),
    ("dozen " * 400, []),
  ],
)
def test_numbers_of(text, numbers):
  assert numbers_of(text) == numbers


@pytest.mark.parametrize(
  ("text", "number"),
  [
    ("4", 4),
    ("There are four.", 4),
    ("First 2 appear, then 1 more. So 3 in total on the 2 tables.", 3),
    ("2 + 1 = 3", 3),
    ("I count 3. I am sure.", 3),
    ("None of them", 0),
    ("No, there are 2", 2),
    ("many", None),
    ("", None),
  ],
)
def test_counted_number(text, number):
  assert counted_number(text) == number


def test_score_has_the_error():
  score = Counting().score("five", question_example("3"))
  assert (score.value, score.answer, score.error) == (0.0, "5", 2.0)


def test_averages():
  metric = Counting()
  scores = [metric.score(text, question_example("three")) for text in ("3", "4", "9", "many")]
  assert metric.average(scores) == dict(accuracy=1 / 4, off_by_one=2 / 4, MAE=7 / 3)


def test_no_number_has_no_mean_error():
  metric = Counting()
  scores = [metric.score("many", question_example("3"))]
  assert metric.average(scores) == dict(accuracy=0.0, off_by_one=0.0)


def test_a_right_answer_without_a_number_is_named():
  with pytest.raises(ValueError, match="'many', which is not a number"):
    Counting().score("3", question_example("many"))
