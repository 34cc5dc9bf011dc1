# SPDX-License-Identifier: Apache-2.0
"""TempCompass's matching rules, task by task."""

import pytest
from question_examples import question_example

from filax.evals.metrics.tempcompass import CAPTION_MATCHING, MULTI_CHOICE, YES_NO, TempCompass

CHOICE = question_example("B. downward", text="Where does it go?\nA. upward\nB. downward")
SENTENCES = question_example(
  "Sentence B: It falls.", text="Which one fits?\nSentence A: It rises.\nSentence B: It falls."
)
OPTIONS = question_example(
  "Option 2: It falls.", text="Which one fits?\nOption 1: It rises.\nOption 2: It falls."
)


def verdict(task, text, example):
  """(value, whether a rule fits)."""
  score = TempCompass(task).score(text, example)
  return score.value, score.parsed


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("B", (1, True)),
    ("B.", (1, True)),
    ("B. downward", (1, True)),
    ("B) downward", (1, True)),
    ("A. downward", (0, True)),
    ("A", (0, True)),
    ("b", (0, False)),
    ("(B)", (0, False)),
    ("downward", (0, False)),
    ("B: downward", (0, False)),
    ("", (0, False)),
  ],
)
def test_multiple_choice(text, expected):
  assert verdict(MULTI_CHOICE, text, CHOICE) == expected


def test_multiple_choice_with_options_and_a_letter():
  example = question_example("B", ("upward", "downward"))
  assert verdict(MULTI_CHOICE, "B. downward", example) == (1, True)


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("No", (1, True)),
    ("no, it rises", (1, True)),
    ("Nothing moves", (1, True)),  # Begins with "no".
    ("Yes", (0, True)),
    ("It does not", (0, False)),
  ],
)
def test_yes_or_no(text, expected):
  assert verdict(YES_NO, text, question_example("no")) == expected


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("Sentence B: It falls.", (1, True)),
    ("It falls.", (1, True)),
    ("Sentence B", (1, True)),
    ("B", (1, True)),
    ("B.", (1, True)),
    ("(B) It falls.", (1, True)),
    ("A", (0, True)),
    ("It rises.", (0, True)),
    ("It falls", (0, False)),
    ("The answer is B", (0, False)),
    ("", (0, False)),
  ],
)
def test_caption_matching(text, expected):
  assert verdict(CAPTION_MATCHING, text, SENTENCES) == expected


@pytest.mark.parametrize("text", ["2", "2.", "Option 2", "Option 2: It falls."])
def test_caption_matching_by_number(text):
  assert verdict(CAPTION_MATCHING, text, OPTIONS) == (1, True)


def test_the_task_of_the_record_is_taken():
  example = question_example("yes", fields=dict(task=YES_NO))
  assert TempCompass().score("Yes.", example).value == 1.0


def test_an_unknown_task_is_named():
  with pytest.raises(ValueError, match=r"'captioning'.*multi-choice"):
    TempCompass("captioning").score("Yes.", question_example("yes"))
