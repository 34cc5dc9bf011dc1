# SPDX-License-Identifier: Apache-2.0
"""The published rules of reading a letter, each on the rows on which they differ."""

import functools

import pytest

from filax.evals.metrics.extractors.before_bracket import letter_before_bracket
from filax.evals.metrics.extractors.egoschema import earliest_letter, egoschema_letter
from filax.evals.metrics.extractors.first_letter import first_letter
from filax.evals.metrics.extractors.mcq_acc import mcq_letter
from filax.evals.metrics.extractors.mmmu import mmmu_letter
from filax.evals.metrics.extractors.polish import polished_letter
from filax.evals.metrics.extractors.prefix_letter import prefix_letter
from filax.evals.metrics.extractors.priority import priority_letter
from filax.evals.metrics.extractors.word_letter import word_letter

TEXTS = tuple(f"text {letter} here" for letter in "abcde")
RULES = dict(
  mcq=mcq_letter,
  first=first_letter,
  priority=priority_letter,
  priority_of_five=functools.partial(priority_letter, letters="ABCDE"),
  prefix=prefix_letter,
  mmmu=mmmu_letter,
  word=word_letter,
  earliest=earliest_letter,
  polished=polished_letter,
  bracket=letter_before_bracket,
)
# "0" is nothing, also where the published code draws a letter; "-" is a cell that nobody measured.
TABLE = """
A                                  A A A A A A A A A A
A.                                 A A A A A A A A A A.
b                                  B 0 0 0 0 0 - 0 b b
(B) a dog                          B B B B B B B B B B
B) a dog                           B B B B B 0 B 0 B B
C: a dog                           C C C C C 0 C 0 C -
The answer is C.                   C C C C C C C C T -
Answer: B                          B A B B A B B B A -
A cat is in B                      A A A A A B A A A -
I think a dog                      A 0 0 0 0 0 - 0 I -
BANANA                             - B A A B A - A B -
Option (C)                         C C C C C C C C C C
E                                  E 0 0 E E E - E E E
A, B                               A A A A A B A B A -
None of these                      - 0 0 0 0 0 - 0 N -
the option is text d here now ok   D 0 0 0 0 D - D t -
The correct option is (E).         E 0 0 E E E - E E E
**C**                              C C C C C 0 C 0 * -
                                   - 0 0 0 0 0 - 0 0 0
"""
COLUMN = 35


def cells():
  """(rule, text, letter) of the table."""
  for line in TABLE.strip("\n").split("\n"):
    letters = line[COLUMN:].split()
    assert len(letters) == len(RULES), line
    for name, letter in zip(RULES, letters, strict=True):
      if letter != "-":
        yield name, line[:COLUMN].strip(), None if letter == "0" else letter


@pytest.mark.parametrize(("rule", "text", "letter"), cells())
def test_conformance(rule, text, letter):
  assert RULES[rule](text, TEXTS) == letter


def test_first_letter_keeps_the_missing_commas():
  assert first_letter("Best answer: D") == "B"
  assert first_letter("Best option: D") == "B"


def test_prefix_letter_removes_what_the_missing_commas_keep():
  assert prefix_letter("Best answer: D") == "D"
  assert prefix_letter("Best option: D") == "D"


def test_prefix_letter_gives_e_for_four_options():
  assert prefix_letter("E", TEXTS[:4]) == "E"


@pytest.mark.parametrize(
  ("text", "letter"),
  [
    ("A. no. The answer is C, I think", "A"),  # First: 10.
    ("It is not (A), so B", "B"),  # Last: 9.
    ("Well, (A) or the answer is C maybe", "C"),  # After a phrase: 7.
    ("the answer is C, not D, I think", "D"),  # Every later letter counts; the last one wins.
    ("so (A) or B. it is", "A"),  # Brackets before a full stop.
    ("答案是C吧", "C"),
    ("정답은 B 입니다", "B"),
    ("cABd", "B"),  # Anywhere: the last occurrence.
  ],
)
def test_priorities(text, letter):
  assert priority_letter(text) == letter


@pytest.mark.parametrize(
  ("text", "letter"),
  [
    ("b. text", "B"),
    ("E.g. this", "E"),
    ("A. one\ntwo", "A"),  # No label (two lines), but a separate letter.
    ("x\nB. two", "B"),
    ("Answer(C)", "C"),  # A mark without a space becomes a space.
    ("1,000 Answer(C)", None),  # A number with a comma makes it vanish.
    ("." * 33 + "B", "B"),
  ],
)
def test_mcq_letter(text, letter):
  assert mcq_letter(text) == letter


def test_mmmu_takes_the_last_of_several():
  assert mmmu_letter("(A) is less likely than (C)", TEXTS) == "C"
  assert mmmu_letter("neither text a here nor so, but text b here", TEXTS) == "B"


def test_mmmu_knows_as_many_letters_as_options():
  assert mmmu_letter("(E)", TEXTS[:4]) is None


def test_egoschema_takes_the_first_of_several():
  assert egoschema_letter("(C) rather than (A)", TEXTS) == "C"


def test_egoschema_options_begin_with_their_letters():
  text = "the option is text d here now ok"
  assert earliest_letter(text, TEXTS) == "D"
  assert egoschema_letter(text, TEXTS) is None


def test_word_letter_has_no_number_of_options():
  assert word_letter("D", TEXTS[:3]) == "D"


def test_bracket_without_a_character_before_it():
  assert letter_before_bracket(") B") is None
