# SPDX-License-Identifier: Apache-2.0
"""Multiple choice: right letters, denominators, and MVBench's own rule."""

import pytest
from question_examples import COLOURS, question_example

from filax.evals.metrics.choice import Choice, gold_letter
from filax.evals.metrics.extractors.first_letter import first_letter
from filax.evals.metrics.extractors.mcq_acc import mcq_letter
from filax.evals.metrics.extractors.polish import polished_letter
from filax.evals.metrics.mvbench_official import MvbenchOfficial

EXAMPLE = question_example("B", COLOURS)
ANSWERS = ("B", "A", "", "nothing")


def averages(counts, answers=ANSWERS):
  metric = Choice(mcq_letter, counts=counts)
  return metric.average([metric.score(text, EXAMPLE) for text in answers])


@pytest.mark.parametrize(
  ("answer", "letter"),
  [
    ("B", "B"),
    ("blue", "B"),
    (" blue ", "B"),
    ("B. blue", "B"),
    ("(B) blue", "B"),
    ("(b)", "B"),
    ("b.", "B"),
    ("a grey one", "D"),
    ("a grey one.", None),
    ("Blue", None),
    ("E", None),
    ("BC", None),
    ("violet", None),
    ("", None),
  ],
)
def test_gold_letter(answer, letter):
  assert gold_letter(question_example(answer, COLOURS)) == letter


def test_the_first_of_equal_options_is_right():
  assert gold_letter(question_example("red", ("blue", "red", "red"))) == "B"


def test_a_small_letter_is_a_text_first():
  assert gold_letter(question_example("a", ("b", "a"))) == "B"


def test_a_letter_needs_no_options():
  assert gold_letter(question_example("F")) == "F"


def test_a_right_letter_scores_one():
  score = Choice(first_letter).score("C, no: B", EXAMPLE)
  assert (score.value, score.answer) == (0.0, "C")
  assert Choice(first_letter).score(" B\n", EXAMPLE).value == 1.0


def test_an_answer_that_is_no_option_is_wrong():
  score = Choice(first_letter).score("A", question_example("violet", COLOURS))
  assert (score.value, score.answer) == (0.0, "A")


def test_a_kept_answer_is_wrong_but_understood():
  score = Choice(first_letter).score("A", question_example("", COLOURS))
  assert (score.value, score.parsed) == (0.0, True)


def test_a_raw_character_is_compared():
  assert Choice(polished_letter).score("**B**", EXAMPLE).answer == "*"


def test_all_answers_count():
  assert averages("all") == dict(accuracy=1 / 4)


def test_parsed_answers_count():
  assert averages("parsed") == dict(accuracy=1 / 2, accuracy_all=1 / 4)


def test_answers_with_words_count():
  assert averages("nonempty") == dict(accuracy=1 / 3, accuracy_all=1 / 4)


def test_equal_denominators_give_one_number():
  assert averages("nonempty", ["B", "A"]) == dict(accuracy=1 / 2)


def test_nothing_counted_is_zero():
  assert averages("nonempty", ["", " "]) == dict(accuracy=0.0, accuracy_all=0.0)


def test_no_scores_have_no_average():
  assert averages("all", []) == {}


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("B", 1),
    ("B)", 1),
    ("B) blue", 1),
    ("b. blue", 1),
    ("A) not (B)", 0),
    (")", 0),  # "()" is not a part of "(b)".
    ("", 1),  # "(" is a part of every label.
    ("C", 0),
    ("A\nB", 0),
    ("(B)", 1),  # "((b)" holds "(b)".
  ],
)
def test_mvbench_official(text, value):
  assert MvbenchOfficial().score(text, EXAMPLE).value == value


def test_mvbench_official_counts_all():
  metric = MvbenchOfficial()
  scores = [metric.score(text, EXAMPLE) for text in ANSWERS]
  assert metric.average(scores) == dict(accuracy=1 / 2)
