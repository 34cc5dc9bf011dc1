# SPDX-License-Identifier: Apache-2.0
"""Every reader of answers takes any text, and long ones in linear time."""

import random
import string
import time

import pytest
from question_examples import question_example

from filax.evals.metrics import counting, spans
from filax.evals.metrics.captions import caption_words
from filax.evals.metrics.extractors.before_bracket import letter_before_bracket
from filax.evals.metrics.extractors.egoschema import egoschema_letter
from filax.evals.metrics.extractors.first_letter import first_letter
from filax.evals.metrics.extractors.mcq_acc import mcq_letter
from filax.evals.metrics.extractors.mmmu import mmmu_letter
from filax.evals.metrics.extractors.polish import polished_letter
from filax.evals.metrics.extractors.prefix_letter import prefix_letter
from filax.evals.metrics.extractors.priority import priority_letter
from filax.evals.metrics.extractors.word_letter import word_letter
from filax.evals.metrics.mvbench_official import MvbenchOfficial
from filax.evals.metrics.tempcompass import RULES

OPTIONS = ("a red circle", "a blue square", "nothing at all", "a ring")
EXTRACTORS = (
  first_letter,
  prefix_letter,
  priority_letter,
  mcq_letter,
  mmmu_letter,
  egoschema_letter,
  word_letter,
  polished_letter,
  letter_before_bracket,
)
READERS = (
  spans.parse_span_vcf,
  spans.parse_span_lmms,
  counting.counted_number,
  caption_words,
)
CHOICE = question_example("B", OPTIONS)
CAPTIONS = question_example("Option 1: a", text="Which?\nOption 1: a\nOption 2: b")
RANDOM_TEXTS = 2000
LONG = 100_000  # Characters.
GENEROUS_SECONDS = 5.0  # A quadratic reader takes minutes.
REPEATED = (
  *("!", "(", "A ", "A.\n", " ", ".", "x", "é", "=", "- ", "1", "1.", "1-", "1 s ", "0:0"),
  *("12:34:56 ", "start 1!", "the answer is ", "twenty ", "dozen ", "1,000,", "a red circle "),
)
LONG_TEXTS = [(piece * LONG)[:LONG] for piece in REPEATED]
LONG_TEXTS += ["A." + " " * LONG + "\nx\ny", "start 1" + " " * LONG + "x", "1" + "." * LONG + "x"]


def readings(text):
  """What every reader makes of a text."""
  for extract in EXTRACTORS:
    yield extract.__name__, extract(text, OPTIONS)
  for reader in READERS:
    yield reader.__name__, reader(text)
  yield "mvbench", MvbenchOfficial().score(text, CHOICE)
  for task, rule in RULES.items():
    yield task, rule(text, CAPTIONS)


def random_texts():
  """Texts of characters and phrases that the rules look for."""
  generator = random.Random(0)
  pieces = [*string.printable, *OPTIONS, *REPEATED, "İ", "ß", "\u2028", "\ud800", "٣", "²", "选"]
  for _ in range(RANDOM_TEXTS):
    yield "".join(generator.choices(pieces, k=generator.randrange(20)))


def test_no_text_raises():
  for text in random_texts():
    assert dict(readings(text))


def test_an_extractor_gives_a_text_or_nothing():
  for text in random_texts():
    for extract in EXTRACTORS:
      letter = extract(text, OPTIONS)
      assert letter is None or (isinstance(letter, str) and letter), (extract, text)


def test_a_span_begins_before_its_end():
  for text in random_texts():
    for parse in (spans.parse_span_vcf, spans.parse_span_lmms):
      start, stop = parse(text) or (0.0, 0.0)
      assert 0 <= start <= stop, text


@pytest.mark.parametrize("text", LONG_TEXTS, ids=lambda text: repr(text[:12]))
def test_long_texts_take_linear_time(text):
  start = time.perf_counter()
  assert dict(readings(text))
  assert time.perf_counter() - start < GENEROUS_SECONDS
