# SPDX-License-Identifier: Apache-2.0
"""Needle files: the released ones, others of their shape, and what is refused."""

import collections
import json
import os
import pathlib

import pytest

from data_pipelines.synthesis import needle_questions
from filax.evals.kit import BadAnnotation, MissingAnnotation
from filax.evals.needle import items as items_lib
from filax.evals.needle.pictures import PictureSource, folders_of, read_pictures
from filax.testing import clips

DATA = os.environ.get("FILAX_TEST_DATA", "")
RELEASED = pathlib.Path(DATA, "annotations/vcf_niah")
released = pytest.mark.skipif(
  not DATA or not RELEASED.exists(), reason="FILAX_TEST_DATA names no folder with the needle files"
)
CHAIN = dict(
  images=["multi/niah_7_2_a.jpg", "multi/b.jpg", "multi/niah_7_1_c.jpg"],
  question1="Find the frame of a cup. Choose: \nOptions: (A) x\n(B) y\n(C) z\n(D) w\nOnly",
  answer1="A",
  question2="Find the frame of a cup. Answer: \nOptions: (A) x\n(B) y\n(C) z\n(D) w\nOnly",
  answer2="B",
)


def write(folder, records, name="needles.json"):
  path = folder / name
  path.write_text(json.dumps(records))
  return path


@released
def test_all_released_single_needles_are_read():
  items = items_lib.read_items(items_lib.find_file(RELEASED, False))
  letters = collections.Counter(item.questions[0].answer for item in items)
  assert letters == dict(A=4, B=5, C=6, D=5)


@released
def test_all_released_chains_are_read():
  items = items_lib.read_items(items_lib.find_file(RELEASED, True))
  assert collections.Counter(len(item.pictures) for item in items) == {5: 31, 6: 28, 7: 41}
  assert {question.chance for item in items for question in item.questions} == {0.25}
  assert {item.needle for item in items} == set(range(7))


@released
def test_missing_pictures_of_released_needles_are_named():
  path = items_lib.find_file(RELEASED, False)
  items = items_lib.read_items(path)
  _, errors = read_pictures(PictureSource(folders_of(path, "")), items, 32)
  assert len(errors) == 20
  assert "single/COCO_val2014_000000152808.jpg is missing" in next(iter(errors.values()))


@released
def test_released_names_with_other_pictures_are_read(tmp_path):
  path = items_lib.find_file(RELEASED, True)
  items = items_lib.read_items(path)[:3]
  for item in items:
    for name in item.pictures:
      clips.write_picture(tmp_path / name)
  pictures, errors = read_pictures(PictureSource(folders_of(path, str(tmp_path))), items, 32)
  assert not errors and len(pictures) == sum(len(item.pictures) for item in items)


def test_longva_fields_are_read(tmp_path):
  record = dict(path="a.png", prompt="\nWhat colour is it?", answer="Yellow")
  (item,) = items_lib.read_items(write(tmp_path, [record]))
  assert item.pictures == ("a.png",)
  assert item.questions[0] == ("", "\nWhat colour is it?", "Yellow", None)


def test_dotted_options_give_the_chance_of_guessing(tmp_path):
  prompt = "\nFind it. Which?\nA. a\nB. b\nC. c\nD. d\nAnswer with the option's letter"
  (item,) = items_lib.parse_items([dict(path="a.png", prompt=prompt, answer="B")], "x")
  assert item.questions[0].chance == 0.25


def test_the_needle_is_the_picture_without_a_prefix():
  (item,) = items_lib.parse_items([CHAIN], "x")
  assert item.needle_picture == "multi/b.jpg"
  assert [question.name for question in item.questions] == ["CAP", "QA"]


def test_drawn_records_have_the_released_shape():
  items = items_lib.parse_items(needle_questions.chain_records(3), "cards")
  assert [len(item.pictures) for item in items] == [5, 6, 7]


@pytest.mark.parametrize(
  ("records", "reason"),
  [
    ([], "not a list"),
    ({"a": 1}, "not a list"),
    ([3], "not an object"),
    ([dict(image="a.png", answer="A")], "no text question or prompt"),
    ([dict(question="Q?", answer="A")], "no text image or path"),
    ([CHAIN | dict(images=["a.jpg"])], "2 images"),
    ([CHAIN | dict(images=["a.jpg", "b.jpg"])], "without the prefix niah_"),
    ([CHAIN | dict(hints=["x"])], "hints"),
    ([CHAIN, dict(image="a.png", question="Q?", answer="A")], "mixes"),
    ([dict(image="a.png", question="Q?", answer="A", id=3)] * 2, "one id"),
  ],
)
def test_other_files_are_refused(tmp_path, records, reason):
  with pytest.raises(BadAnnotation, match=reason):
    items_lib.read_items(write(tmp_path, records))


def test_a_file_without_images_field_names_what_it_lacks():
  record = {key: value for key, value in CHAIN.items() if key != "answer2"}
  with pytest.raises(BadAnnotation, match="answer2"):
    items_lib.parse_items([record], "x")


def test_a_missing_file_says_where_it_is(tmp_path):
  with pytest.raises(MissingAnnotation, match="OpenGVLab/NIAH-Video"):
    items_lib.find_file(tmp_path, True)


def test_hints_are_written_onto_pictures(tmp_path):
  clips.write_picture(tmp_path / "a.png", width=200, height=200)
  source = PictureSource((str(tmp_path),))
  plain = source.read_picture("a.png", 64)
  noted = source.read_picture("a.png", 64, "Find the frame of a cup.")
  assert (plain != noted).any()
