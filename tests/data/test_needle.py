# SPDX-License-Identifier: Apache-2.0
"""Cards, haystacks and their questions: what is held out, what is deterministic, what is right."""

import itertools
import json
import pathlib
import re

import numpy as np
import pytest

from data_pipelines.media import pictures
from data_pipelines.synthesis import needle, needle_questions
from data_pipelines.synthesis.needle import Card

SIDE = 32


def options(question):
  return dict(re.findall(r"\(([A-D])\) (.+)", question))


def cards_of(record):
  return [needle.card_of(name) for name in record["images"]]


def chain(record):
  """The cards from the first clue to the needle, in chain order, and the decoys."""
  numbered = {}
  for name in record["images"]:
    match = re.match(r"multi/niah_\d+_(\d+)_", name)
    numbered[int(match[1]) if match else 0] = needle.card_of(name)
  slot = len(numbered) - needle_questions.DECOYS
  cards = [numbered[number] for number in range(1, slot)] + [numbered[0]]
  return cards, [numbered[slot + number] for number in (1, 2, 3)]


def test_kinds_belong_to_one_split():
  kinds = {"train": set(), "test": set()}
  for key, shape, pointer in itertools.product(needle.KEYS, needle.SHAPES, needle.POINTERS):
    kind = f"{key} {shape} {pointer}"
    for seed in range(40):
      split = needle.split_of(kind, seed)
      if split:
        kinds[split].add(kind)
  assert not kinds["train"] & kinds["test"]
  assert len(kinds["test"]) > 50


def test_seeds_belong_to_one_split():
  seeds = {"train": set(), "test": set()}
  for kind in ("", "red ring blue", "blue bar white", "cyan cross red"):
    for seed in range(200):
      split = needle.split_of(kind, seed)
      if split:
        seeds[split].add(seed)
  assert not seeds["train"] & seeds["test"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_cards_of_questions_come_from_their_split(split):
  records = needle_questions.choice_records(40, split=split)
  names = [record["image"] for record in records]
  for record in needle_questions.chain_records(20, split=split):
    names += record["images"]
  for name in names:
    card = needle.card_of(name)
    assert needle.split_of(card.kind, card.seed) == split


def test_an_unknown_split_is_refused():
  with pytest.raises(ValueError, match="train or test"):
    next(needle.haystack_scenes(0, "validation", SIDE))


def test_the_name_of_a_picture_gives_its_card():
  card = Card("blue", "ring", "white", 7)
  assert needle.card_of(f"multi/niah_3_1_{card.picture}") == card


@pytest.mark.parametrize("name", ["single/a.jpg", "blue-ring-white.png", "blue-knot-white-7.png"])
def test_other_names_are_refused(name):
  with pytest.raises(ValueError, match="not a name of a card"):
    needle.card_of(name)


def test_bands_show_key_and_pointer():
  picture = needle.draw_card(Card("red", "circle", "blue", 5), 48)
  top, bottom = picture[2].mean(0), picture[-3].mean(0)
  assert top[0] > top[2] + 80
  assert bottom[2] > bottom[0] + 80


def test_a_seed_draws_another_picture_of_a_kind():
  first = needle.draw_card(Card("red", "circle", "blue", 5), 48)
  second = needle.draw_card(Card("red", "circle", "blue", 6), 48)
  assert (first != second).any()


def test_a_lure_has_no_coloured_bands():
  lure = needle.draw_lure(3, 48).astype(int)
  assert np.ptp(lure[:6].mean((0, 1))) < 20


def test_parts_are_the_scenes_cut_anew():
  scenes = needle.haystack_scenes(3, "test", SIDE)
  expected = np.concatenate([next(scenes) for _ in range(8)])
  parts = list(needle.haystack_parts(3, "test", SIDE, 90, 32))
  assert [len(part) for part in parts] == [32, 32, 26]
  assert (np.concatenate(parts) == expected[:90]).all()


def test_scenes_are_whole_clips():
  scenes = itertools.islice(needle.haystack_scenes(0, "test", SIDE), 40)
  assert all(len(scene) % needle.CLIP == 0 for scene in scenes)


def test_lures_are_among_the_scenes():
  scenes = itertools.islice(needle.haystack_scenes(0, "test", SIDE), 60)
  bright = [scene.mean() > 150 for scene in scenes]
  assert 1 <= sum(bright) <= 20


def test_test_scenes_are_not_training_scenes():
  train = next(needle.haystack_scenes(0, "train", SIDE))
  test = next(needle.haystack_scenes(0, "test", SIDE))
  assert train.shape != test.shape or (train != test).any()


def test_records_are_the_same_every_time():
  assert needle_questions.chain_records(3, 5) == needle_questions.chain_records(3, 5)


def test_the_right_option_is_on_the_card():
  for record in needle_questions.choice_records(20):
    card = needle.card_of(record["image"])
    right = options(record["question"])[record["answer"]]
    assert right == (card.shape if "shape" in record["question"] else card.pointer)


def test_options_differ():
  for record in needle_questions.choice_records(40):
    assert len(set(options(record["question"]).values())) == 4


def test_letters_are_evenly_right():
  letters = [record["answer"] for record in needle_questions.choice_records(400)]
  assert all(60 < letters.count(letter) < 140 for letter in "ABCD")


def test_pointers_lead_from_clue_to_needle():
  for record in needle_questions.chain_records(30):
    cards, _ = chain(record)
    assert [card.pointer for card in cards] == [*[card.key for card in cards[1:]], needle.END]


def test_chains_have_one_to_three_clues_and_three_decoys():
  sizes = {len(record["images"]) for record in needle_questions.chain_records(9)}
  assert sizes == {5, 6, 7}


def test_all_keys_of_a_video_differ():
  for record in needle_questions.chain_records(30):
    keys = [card.key for card in cards_of(record)]
    assert len(set(keys)) == len(keys)


def test_decoys_do_not_end_at_the_right_card_alone():
  """Each caption option is a card of the video, so only the chain tells which is last."""
  for record in needle_questions.chain_records(30):
    cards, decoys = chain(record)
    captions = {card.caption for card in [cards[-1], *decoys]}
    assert set(options(record["question1"]).values()) == captions


def test_both_answers_of_a_chain_are_right():
  for record in needle_questions.chain_records(30):
    cards, _ = chain(record)
    assert options(record["question1"])[record["answer1"]] == cards[-1].caption
    assert options(record["question2"])[record["answer2"]] == cards[-1].shape


def test_chains_are_shuffled():
  forward = 0
  for record in needle_questions.chain_records(60):
    cards, _ = chain(record)
    places = [cards_of(record).index(card) for card in cards]
    forward += places == sorted(places)
  assert 3 < forward < 40


def test_a_hint_is_written_into_the_lower_part():
  picture = np.full((120, 160, 3), 200, np.uint8)
  noted = needle.draw_hint(picture, "Find the frame of a bench with a red cover.")
  assert noted.shape == picture.shape
  assert (noted[:40] == picture[:40]).all() and (noted[-20:] != picture[-20:]).any()


def test_written_needles_are_the_drawn_ones(tmp_path):
  records = needle_questions.chain_records(2)
  path = needle_questions.write_records(tmp_path, "chains.json", records, SIDE)
  assert json.loads(pathlib.Path(path).read_text()) == records
  name = records[1]["images"][0]
  picture = pictures.read_image(tmp_path / name)
  assert (picture == needle.draw_card(needle.card_of(name), SIDE)).all()
