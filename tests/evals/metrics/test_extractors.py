# SPDX-License-Identifier: Apache-2.0
"""The published rules of reading a letter, each on the rows on which they differ."""

import functools

import pytest

from filax.evals.metrics.extractors.before_bracket import letter_before_bracket
from filax.evals.metrics.extractors.egoschema import earliest_letter
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
