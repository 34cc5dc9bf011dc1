# SPDX-License-Identifier: Apache-2.0
"""How answers are read and compared, case by case."""

import pytest

from data_pipelines.sample import Turn
from filax.evals import kit, registry
from filax.evals.benchmarks import manifest
from filax.evals.kit import Example, Source
from filax.evals.metrics import exact
from filax.evals.metrics.options import without_letter
from filax.evals.metrics.plain_text import normalised
from filax.testing import manifests

OPTIONS = ("a red circle", "a blue square", "nothing at all", "a ring")


def example(answer="B", options=OPTIONS):
  return Example("x", Turn("user", ("What is shown?",)), answer, options=tuple(options))


@pytest.mark.parametrize(
  "text, want",
  [
    ("B", "B"),
    ("b", "B"),
    (" (C) ", "C"),
    ("D.", "D"),
    ("A) a red circle", "A"),
    ("A: circle", "A"),
    ("B, because it is blue", "B"),
    ("C\nIt is empty.", "C"),
    ("The answer is B.", "B"),
    ("Answer: (D)", "D"),
    ("I choose option C", "C"),
    ("A blue square.", "B"),
    ("a ring", "D"),
    ("Nothing at all!", "C"),
    ("It must be (B) then", "B"),
    ("Both (A) and (B)", None),
    ("It is D", "D"),
    ("A man shows a ring to us", "D"),
    ("A man stands there", None),
    ("", None),
    ("E", None),
    ("a red circle and a ring", None),
    ("not B or C", None),
    ("string", None),
  ],
)
def test_letters(text, want):
  assert exact.chosen_letter(text, example()) == want


@pytest.mark.parametrize(
  "text, want",
  [
    ("Red.", "red"),
    ("  A  red\tcircle! ", "red circle"),
    ("it's", "it s"),
    ("10:30", "10 30"),
    ("ÉTÉ", "été"),
    ("\uff22lue", "blue"),
    ("\u2026", ""),
    ("", ""),
    ("A", "a"),
  ],
)
def test_normalised(text, want):
  assert normalised(text) == want


def test_words_that_say_nothing_are_not_understood():
  assert exact.free_answer(" ... ") is None
  assert exact.free_answer("Two dogs") == "two dogs"


@pytest.mark.parametrize(
  "answer, want",
  [("B", "B"), ("(B)", "B"), ("b. ", "B"), ("A blue square", "B"), ("E", None), ("a dog", None)],
)
def test_the_right_letter(answer, want):
  if want is None:
    with pytest.raises(ValueError, match="not one of its options"):
      exact.right_letter(example(answer))
  else:
    assert exact.right_letter(example(answer)) == want


def test_scores():
  assert exact.exact_match("B", example("a blue square")) == 1.0
  assert exact.exact_match("A", example("a blue square")) == 0.0
  free = example("A Dog.", ())

  def said(text):
    return exact.exact_match(exact.free_answer(text), free)

  assert said("a dog") == said("dog") == 1.0 and said("a dog barks") == 0.0


def test_a_multiple_choice_turn_lists_its_options():
  turn = kit.multiple_choice(example(options=OPTIONS[:2]))
  assert turn.text == (
    "What is shown?\nA. a red circle\nB. a blue square\nAnswer with the option's letter from the "
    "given choices directly."
  )


@pytest.mark.parametrize(
  "option, want",
  [
    ("B. a dog", "a dog"),
    ("(B) a dog", "a dog"),
    ("B) a dog", "a dog"),
    ("a dog", "a dog"),
    ("A dog", "A dog"),
    ("Bob. He left", "Bob. He left"),
  ],
)
def test_letters_of_options_are_taken_off(option, want):
  assert without_letter(option) == want


def read(tmp_path, *records):
  source = Source(str(manifests.write_manifest(tmp_path / "questions.json", list(records))))
  return list(manifest.read_examples(source)), source.report


def test_every_question_of_a_conversation_shows_what_was_shown_before(tmp_path):
  said = [("<image>\nFirst?", "one"), ("Second?", "two"), ("<image>\nThird?", "three")]
  turns = [{"from": "system", "value": "Be brief."}]
  for asked, answer in said:
    turns += [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
  found, _ = read(tmp_path, dict(id="a", video=["x.mp4", "y.mp4"], conversations=turns))
  assert [e.id for e in found] == ["a", "a/1", "a/2"]
  assert [e.answer for e in found] == ["one", "two", "three"]
  assert [e.turn.parts for e in found] == [
    (0, "\nFirst?"),
    (0, "\n", "Second?"),
    (0, "\n", 1, "\nThird?"),
  ]
  assert [len(e.media) for e in found] == [1, 1, 2]
  assert found[0].before[0].text == "Be brief."


def test_bad_records_are_reported_with_their_line(tmp_path):
  found, report = read(
    tmp_path,
    manifests.question_record(video="a.mp4", options=["yes", "no"], answer="x"),
    manifests.question_record(answer="A", video="a.mp4", options=["A. yes", "B. no"]),
    manifests.question_record(video="a.mp4", options="yes"),
    manifests.question_record(video="a.mp4", options=list("abcdefghi")),
    dict(conversations=[]),
  )
  assert len(found) == 1 and found[0].options == ("yes", "no")
  assert [bad.line for bad in report.bad] == [2, 4, 5, 6]
  assert "not one of its options" in report.bad[0].reason


def test_right_answers_of_letter_and_text_must_agree(tmp_path):
  options = ["(A) a red kite", "(B) a blue kite"]
  found, report = read(
    tmp_path,
    manifests.question_record(video="a.mp4", options=options, answer="(B) a blue kite"),
    manifests.question_record(
      video="a.mp4", options=["a red kite", "a blue kite"], answer="b: A blue kite."
    ),
    manifests.question_record(video="a.mp4", options=options, answer="B. a red kite"),
    manifests.question_record(video="a.mp4", options=options[::-1], answer="A"),
  )
  assert [exact.right_letter(example) for example in found] == ["B", "B"]
  assert [bad.line for bad in report.bad] == [4, 5]
  assert "not one of its options" in report.bad[0].reason
  assert "letters B, A, not in order" in report.bad[1].reason


def test_options_are_asked_once(tmp_path):
  beside = dict(question="Which?", options=["a kite", "a ball"], answer="A", video="a.mp4")
  turns = manifests.question_record("Which?", "A", video="a.mp4", options=["a kite", "a ball"])
  for record in (beside, turns):
    (example,), _ = read(tmp_path, record)
    text = manifest.question_prompt(example, None).turns[0].text
    assert text.count("A. a kite") == text.count("Answer with the option's letter") == 1


def test_a_name_that_is_nothing_lists_the_benchmarks(tmp_path):
  with pytest.raises(ValueError, match=r"no manifest nothing\.json\. .*--benchmark .*videomme"):
    registry.check_manifest("nothing.json")
