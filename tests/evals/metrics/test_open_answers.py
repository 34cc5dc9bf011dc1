# SPDX-License-Identifier: Apache-2.0
"""Free answers and captions against references."""

import pytest
from question_examples import question_example

from filax.evals.metrics.caption_overlap import cider_d, corpus_bleu, rouge_l
from filax.evals.metrics.captions import CaptionOverlap, caption_scores, caption_words
from filax.evals.metrics.open_answers import OpenAnswer

FURTHER = question_example("on the table", fields=dict(more=["upon a table", "table top"]))
CAPTIONS = ("A man rides a bike.", "The cat runs near the house!", "a dog and a man")
REFERENCES = (
  ("a man rides a red bike on the street", "a man on a bike"),
  ("the cat runs near an old house", "a cat runs fast"),
  ("a dog and a cat",),
)


@pytest.mark.parametrize(
  ("text", "f1"),
  [
    ("On the table!", 1.0),
    ("the table", 2 / 3),  # "table" of "on table"; articles do not count.
    ("table on", 1.0),
    ("table table", 1 / 2),
    ("chair", 0.0),
    ("", 0.0),
  ],
)
def test_word_f1(text, f1):
  assert OpenAnswer().score(text, question_example("on the table")).value == pytest.approx(f1)


def test_equal_words_are_right():
  metric = OpenAnswer("accuracy")
  assert metric.score("On a TABLE.", question_example("on the table")).value == 1.0
  assert metric.score("table on", question_example("on the table")).value == 0.0


def test_the_best_reference_counts():
  assert OpenAnswer(references="more").score("upon the table", FURTHER).value == 1.0
  assert OpenAnswer().score("upon the table", FURTHER).value == 0.5


def test_a_reference_may_be_a_text_or_missing():
  example = question_example("cat", fields=dict(more="dog"))
  assert OpenAnswer(references="more").score("dog", example).value == 1.0
  assert OpenAnswer(references="none").score("cat", example).value == 1.0


def test_open_answers_average_under_their_headline():
  metric = OpenAnswer()
  scores = [metric.score(text, question_example("cat")) for text in ("cat", "dog")]
  assert metric.average(scores) == dict(f1=0.5)


def test_another_headline_is_refused():
  with pytest.raises(ValueError, match="headline='bleu'"):
    OpenAnswer("bleu")


def test_caption_words():
  assert caption_words("It's a well-lit ROOM, no. 3_b!") == "it's a well-lit room no 3 b".split()


def test_caption_scores_equal_those_of_the_coco_evaluation():
  # pycocoevalcap 1.2 on the same words; its BLEU adds 1e-9 and the like.
  scores = caption_scores(CAPTIONS, REFERENCES)
  assert scores["BLEU-4"] == pytest.approx(0.6059215, abs=1e-6)
  assert scores["ROUGE-L"] == pytest.approx(0.8100450130300877, abs=1e-12)
  assert scores["CIDEr-D"] == pytest.approx(4.587691857946801, abs=1e-12)


def test_bleu_counts_a_word_as_often_as_one_reference_has_it():
  """By hand: 4 of 5 words, 3 of 4 pairs, 2 of 3 triples and 1 of 2 runs of four match."""
  references = ["a b c d".split(), "a b c d e".split()]
  assert corpus_bleu(["a a b c d".split()], [references]) == pytest.approx(0.2**0.25)


def test_a_long_caption_has_no_bonus_in_bleu():
  """By hand: 4 of 6 words, 3 of 5 pairs, 2 of 4 triples and 1 of 3 runs of four match."""
  score = corpus_bleu(["a b c d e f".split()], [["a b c d".split()]])
  assert score == pytest.approx((4 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_equal_captions_have_full_scores():
  words = [caption_words(caption) for caption in CAPTIONS]
  references = [[caption] for caption in words]
  assert corpus_bleu(words, references) == pytest.approx(1.0)
  assert cider_d(words, references) == pytest.approx([10.0] * 3)
  assert rouge_l(words[0], references[0]) == pytest.approx(1.0)


def test_captions_without_words_score_zero():
  scores = caption_scores(["", "?"], [["a man"], ["a cat"]])
  assert set(scores.values()) == {0.0}


def test_no_captions_have_no_scores():
  assert caption_scores([], []) == {}


def test_a_caption_is_scored_by_rouge_l():
  metric = CaptionOverlap(references="more")
  example = question_example(REFERENCES[0][0], fields=dict(more=[REFERENCES[0][1]]))
  score = metric.score(CAPTIONS[0], example)
  assert score.value == pytest.approx(0.87142857)
  assert metric.average([score]) == {"ROUGE-L": score.value}


def test_chinese_characters_are_words():
  example = question_example("一只狗在跑")
  assert OpenAnswer().score("一只狗", example).value == pytest.approx(0.75)
  assert CaptionOverlap().score("一只狗在走。", example).value == pytest.approx(0.8)
  assert caption_words("一只dog在跑") == ["一", "只", "dog", "在", "跑"]
