# SPDX-License-Identifier: Apache-2.0
"""Lessons about cards: answers follow from the cards, and parts of the corpus are drawn apart."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipelines.media.frames import read_timeline
from data_pipelines.packing import frame_sampling
from data_pipelines.synthesis import needle_lessons
from data_pipelines.synthesis.needle import END, card_of, split_of
from data_pipelines.synthesis.needle_decks import CardPool, draw_chain_deck
from data_pipelines.synthesis.needle_lessons import LessonOptions
from filax.evals.needle.items import read_items
from filax.spec import VisualLayout
from filax.testing.corpora import open_pipeline

pytestmark = pytest.mark.slow

SMALL = LessonOptions(
  videos=2,
  seconds=48,
  drawings=1,
  captions=8,
  lessons=((16, 6), (64, 12)),
  valid=((16, 4), (64, 12)),
  test_frames=48,
  test_cards=3,
  test_chains=3,
)
LAYOUT = VisualLayout(
  size=48, frames_per_group=4, group_grid=(1, 4), image_grid=(1, 4), newline="none"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("lessons")
  needle_lessons.write_lessons(path, SMALL)
  return path


def records(folder, name):
  return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def cards_of(record):
  """Key -> card of the video."""
  stills = [scene for scene in record["scenes"] if scene["kind"] == "still"]
  cards = [card_of(scene["media"]) for scene in stills]
  assert len({card.key for card in cards}) == len(cards)
  return {card.key: card for card in cards}


def answer_from(cards, question):
  """The answer that the cards give."""
  key = question.removesuffix(" card?").removesuffix(" card point to?").split()[-1]
  card = cards[key]
  if "point to" in question:
    return card.pointer
  if "is on" in question:
    return card.shape
  words = []
  while card.pointer != END:
    card = cards[card.pointer]
    words.append(card.key)
  words.append(END if "follow" in question else card.shape)
  return " ".join(words)


@pytest.mark.parametrize("name", ["lessons-16", "lessons-64", "valid-64"])
def test_answers_follow_from_the_cards(folder, name):
  for record in records(folder, name):
    cards = cards_of(record)
    turns = record["conversations"]
    for human, reply in zip(turns[::2], turns[1::2], strict=True):
      question = human["value"].removeprefix("<image>\n")
      assert reply["value"] == answer_from(cards, question), (record["id"], question)


def test_a_video_lasts_as_long_as_its_lesson_and_cards_fill_clips(folder):
  for record in records(folder, "lessons-64"):
    end = 0
    for scene in record["scenes"]:
      assert scene["at"] == end, record["id"]
      assert scene["at"] % needle_lessons.CLIP == 0
      end += scene["t1"] - scene["t0"]
    assert end == 64


def test_validation_and_test_show_other_kinds_of_cards_than_training(folder):
  for name, split in (("lessons-64", "train"), ("valid-64", "test")):
    for record in records(folder, name):
      for card in cards_of(record).values():
        assert split_of(card.kind, card.seed) == split


def test_no_drawing_of_the_test_is_one_of_validation(folder):
  valid = set()
  for record in records(folder, "valid-64"):
    valid |= {card.picture for card in cards_of(record).values()}
  for name in ("single.json", "chains.json"):
    for item in read_items(folder / "test" / name):
      pictures = {card_of(picture).picture for picture in item.pictures}
      assert not pictures & valid


def test_questions_of_chains_name_the_way(folder):
  for item in read_items(folder / "test" / "chains.json"):
    cards = {card.key: card for card in map(card_of, item.pictures)}
    for question in item.questions:
      assert question.answer == answer_from(cards, question.text)


def test_decoys_of_a_chain_end_as_often_as_they_mislead():
  rng = np.random.default_rng(0)
  pool = CardPool(rng, "train", 1)
  ends = []
  for _ in range(400):
    deck = draw_chain_deck(rng, pool, 2)
    assert [card.pointer for card in deck.cards[:2]] == [card.key for card in deck.cards[1:3]]
    ends += [card.pointer == END for card in deck.cards[deck.links :]]
  assert 0.4 < np.mean(ends) < 0.6


def test_training_reads_whole_clips_at_one_frame_a_second(folder, tmp_path):
  sampling = dict(name="dynamic_fps", frames=1024, low=4, multiple=4, phase="middle")
  pipe = open_pipeline(
    tmp_path,
    layout=LAYOUT,
    train=((str(folder / "lessons-16.jsonl"), "all"),),
    root=str(folder),
    tokenizer=str(folder / "tokenizer.model"),
    template="brief",
    system="",
    sampling=sampling,
    rows=((16, 0, 400, 1),),
    packing=False,
    position_gaps=4096,
  )
  numbers = range(pipe.plan.row_count(0))
  plans = [pipe.row(number) for number in numbers]
  build = pipe.materialise()
  for plan in plans:
    row = build(plan)
    assert row["num_bad"] == 0
    sample = pipe.plan.samples[plan.samples[0]]
    times = np.arange(16) + 0.5
    expected, _ = read_timeline(sample.media[0], times, LAYOUT.size)
    np.testing.assert_array_equal(row["frames"], expected)
    extent = frame_sampling.extent(sample.media[0], pipe.plan.probes, sampling)
    assert extent.duration == 16


def test_the_same_options_complete_a_folder_and_others_are_refused(folder):
  assert needle_lessons.write_lessons(folder, SMALL)["captions.jsonl"] == SMALL.captions
  with pytest.raises(ValueError, match="another"):
    needle_lessons.write_lessons(folder, dataclasses.replace(SMALL, seed=1))
