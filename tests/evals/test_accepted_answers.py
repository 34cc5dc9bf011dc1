# SPDX-License-Identifier: Apache-2.0
"""Questions with several right answers, and captions with several references."""

import json

import pytest

from filax.evals import averaging
from filax.evals.accepted_answers import split_accepted
from filax.evals.benchmarks import manifest
from filax.evals.kit import Source

QUESTION = dict(video="a.mp4", question="What runs?")


def examples(tmp_path, *records):
  path = tmp_path / "questions.json"
  path.write_text(json.dumps(records))
  source = Source(str(path))
  read = list(manifest.read_examples(source))
  return read, [str(bad) for bad in source.report.bad]


@pytest.mark.parametrize(
  ("record", "answer", "references"),
  [
    (QUESTION | dict(answer=["a dog", "a puppy"]), "a dog", ("a puppy",)),
    (QUESTION | dict(answers=["cat", "dog", "dog"]), "dog", ("dog", "cat")),
    (QUESTION | dict(answers=[dict(answer="dog", answer_id=1)]), "dog", ()),
    (QUESTION | dict(answer=[2, "two"]), "2", ("two",)),
    (QUESTION | dict(answer="a dog", references=["a puppy"]), "a dog", ("a puppy",)),
    (dict(video="a.mp4", caption=["A dog runs.", "It runs."]), "A dog runs.", ("It runs.",)),
    (dict(video="a.mp4", captions=["A dog runs.", "It runs."]), "A dog runs.", ("It runs.",)),
    (QUESTION | dict(answer="a dog"), "a dog", ()),
  ],
)
def test_lists_of_right_answers_are_read(tmp_path, record, answer, references):
  (example,), bad = examples(tmp_path, record)
  assert (example.answer, example.references, bad) == (answer, references, [])


def test_a_conversation_may_have_references(tmp_path):
  turns = [{"from": "human", "value": "<image>\nWhat runs?"}, {"from": "gpt", "value": "a dog"}]
  record = dict(video="a.mp4", conversations=turns, references=["a puppy"])
  (example,), _ = examples(tmp_path, record)
  assert example.references == ("a puppy",)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (dict(answer=[]), "answer without a text"),
    (dict(answer=["a dog", None]), "answer with None"),
    (dict(answer=["A", "B"], options=["a dog", "a cat"]), "several right answers, and options"),
  ],
)
def test_other_lists_are_named(tmp_path, change, words):
  read, (bad,) = examples(tmp_path, QUESTION | change)
  assert not read and words in bad


def test_a_record_keeps_its_other_lists():
  record = dict(question="Who?", answer="B", options=["x", "y"])
  assert split_accepted(record) == (record, ())


def test_the_best_right_answer_counts(tmp_path):
  (example,), _ = examples(tmp_path, QUESTION | dict(answer=["a dog", "a small puppy"]))
  words = ("Dog.", "a small puppy", "a puppy", "a cat")
  exact = [manifest.FILAX.metric.score(text, example).value for text in words]
  assert exact == [1.0, 1.0, 0.0, 0.0]
  f1 = [manifest.F1.metric.score(text, example).value for text in words]
  assert f1 == [1.0, 1.0, pytest.approx(2 / 3), 0.0]


def test_captions_are_scored_as_a_set():
  rows = []
  for animal in ("dog", "cat", "bird"):
    text = f"a small {animal} runs home"
    rows.append(
      dict(answer=text, expected=f"one {animal} moves", references=[text], score=1.0, choice=text)
    )
  scores = averaging.set_scores(manifest.CAPTIONS, rows)
  assert scores["BLEU-4"] == scores["ROUGE-L"] == 1.0 and scores["CIDEr-D"] > 3
  assert averaging.set_scores(manifest.FILAX, rows) == {}


def test_options_are_not_compared_by_words(tmp_path):
  (example,), _ = examples(tmp_path, QUESTION | dict(answer="B", options=["a dog", "a cat"]))
  for protocol in (manifest.F1, manifest.CAPTIONS):
    with pytest.raises(ValueError, match=r"has options.*--protocol filax"):
      protocol.arrange(example)
  assert manifest.JUDGE.metric.score("B", example).value == 1.0  # Unasked.


def test_ids_of_records_without_one_do_not_depend_on_folders(tmp_path):
  ids = []
  for folder in ("here", "there"):
    (tmp_path / folder).mkdir()
    read, _ = examples(tmp_path / folder, QUESTION | dict(answer="a dog"))
    ids.append(read[0].id)
  assert ids == ["questions.json:1", "questions.json:1"]
