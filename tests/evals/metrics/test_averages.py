# SPDX-License-Identifier: Apache-2.0
"""Averages over questions and over groups."""

import pytest
from question_examples import COLOURS, question_example

from filax.evals.metrics.averages import (
  column_labels,
  group_averages,
  group_scores,
  macro_average,
  micro_average,
  weighted_average,
)
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.first_letter import first_letter
from filax.evals.metrics.guessing import guess_bonus

ROWS = [
  dict(id=1, task="order", kinds=["ER", "EU"], seconds=600),
  dict(id=2, task="count", kinds=["ER"], seconds=15),
  dict(id=3, task="count", kinds=[], seconds=3600),
  dict(id=4, task="count", kinds=["ER", "ER"], seconds=60),
]
TABLE = dict(order=dict(accuracy=1.0, questions=1), count=dict(accuracy=0.5, questions=3))


def ids(groups):
  return {label: [row["id"] for row in rows] for label, rows in groups.items()}


def test_groups_are_in_order_of_their_names():
  assert list(group_scores(ROWS, "task")) == ["count", "order"]


def test_groups_of_numbers_are_in_order_of_size():
  assert list(group_scores(ROWS, "seconds")) == ["15", "60", "600", "3600"]


def test_a_list_counts_in_each_group_once():
  assert ids(group_scores(ROWS, "kinds")) == {"": [3], "ER": [1, 2, 4], "EU": [1]}


def test_a_missing_column_is_one_group():
  assert ids(group_scores(ROWS, "area")) == {"": [1, 2, 3, 4]}


def test_examples_are_grouped_by_their_fields():
  example = question_example("A", fields=dict(kinds=("x", "y")))
  assert column_labels(example, "kinds") == ["x", "y"]


def test_group_averages_are_the_metric_of_each_group():
  metric = Choice(first_letter, counts="parsed")
  example = question_example("A", COLOURS)
  scores = [metric.score(text, example) for text in ("A", "A", "B", "none")]
  table = group_averages(ROWS, scores, "task", metric)
  assert table == dict(
    count=dict(accuracy=1 / 2, accuracy_all=1 / 3, questions=3),
    order=dict(accuracy=1.0, questions=1),
  )


def test_macro_is_the_mean_of_groups():
  assert macro_average(TABLE, "accuracy") == 0.75


def test_weighted_is_the_mean_of_questions():
  assert weighted_average(TABLE, "accuracy") == pytest.approx(2.5 / 4)


def test_weights_may_be_another_sets_counts():
  assert weighted_average(TABLE, "accuracy", dict(order=3, count=1)) == pytest.approx(3.5 / 4)


def test_micro_is_the_mean_of_values():
  assert micro_average([1, 0, 0, 1]) == 0.5


def test_nothing_has_no_average():
  assert micro_average([]) is None
  assert macro_average({}, "accuracy") is None
  assert weighted_average(TABLE, "accuracy", {}) is None


def test_guess_bonus():
  assert guess_bonus(10, 100, 0.2) == pytest.approx(0.02)
  assert guess_bonus(10, 100, 20.0) == pytest.approx(2.0)
  assert guess_bonus(0, 0, 0.2) == 0.0


def test_guess_bonus_refuses_impossible_counts():
  with pytest.raises(ValueError, match="unparsed=3"):
    guess_bonus(3, 2, 0.2)
