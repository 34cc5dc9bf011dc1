# SPDX-License-Identifier: Apache-2.0
"""Questions about cards hidden in a haystack, with the fields of the released needle files.

Single hop: find the card by its key, name its shape or the colour of its pointer. Multi hop: follow
the pointers from card to card, then choose the caption of the last card, and its shape.
"""

from collections.abc import Sequence
import json
import os
import pathlib
from typing import Any

import numpy as np
from numpy.random import Generator

from data_pipelines.synthesis.needle import END, KEYS, POINTERS, Card, card_of, draw_card, draw_kind
from data_pipelines.synthesis.shapes import SHAPES
from filax import files

LETTERS = "ABCD"
DECOYS = 3
LONGEST_CHAIN = 4  # Cards from the first clue to the needle: 1 to 3 clues.
_ASKED = dict(
  shape="what shape is on the card",
  pointer="what is the colour of the band at the bottom",
)
_TEXT_SHAPES = dict(
  shape="What shape is on the card?",
  pointer="What is the colour of the band at the bottom?",
)

Record = dict[str, Any]


def choice_records(
  count: int,
  seed: int = 0,
  split: str = "test",
) -> list[Record]:
  """Single-hop questions with option ids: question, answer, image, id.

  Two neighbours ask about one card: its shape and its pointer.
  """
  records = []
  for number, (rng, card, aspect) in enumerate(_asked_cards(count, seed, split)):
    words, answer = _options(
      rng,
      getattr(card, aspect),
      _possible(card, aspect),
    )
    question = f"Find the frame of {card.caption}. {_ASKED[aspect]}"
    record = dict(
      question=_with_options(question, words),
      answer=answer,
      image=f"single/{card.picture}",
      id=number,
    )
    records.append(record)
  return records


def text_records(
  count: int,
  seed: int = 0,
  split: str = "test",
) -> list[Record]:
  """Single-hop questions with short answers: path, prompt, answer.

  chance: the score of guessing.
  """
  records = []
  for _, card, aspect in _asked_cards(count, seed, split):
    prompt = (
      f"\nFind the frame of {card.caption}. {_TEXT_SHAPES[aspect]}\nAnswer the question using a "
      "single word or phrase."
    )
    possible = _possible(card, aspect)
    record = dict(
      path=f"single/{card.picture}",
      prompt=prompt,
      answer=getattr(card, aspect),
      chance=1 / len(possible),
    )
    records.append(record)
  return records


def chain_records(
  count: int,
  seed: int = 0,
  split: str = "test",
) -> list[Record]:
  """Multi-hop questions: images, question1, answer1, question2, answer2.

  Names of images say their places in the chain: niah_<item>_<k>_ for the k-th clue, no prefix for
  the needle, then three decoys. The order of `images` is that of the video, and is shuffled.
  """
  return [_chain_record(seed, number, split) for number in range(count)]


def _chain_record(
  seed: int,
  number: int,
  split: str,
) -> Record:
  rng = np.random.default_rng([seed, 2, number])
  clues = 1 + number % (LONGEST_CHAIN - 1)
  cards = None
  while cards is None:
    cards = _draw_chain(rng, clues, split)
  needle = cards[clues]
  images = []
  for place, card in enumerate(cards):
    prefix = "" if card is needle else f"niah_{number}_{place + 1}_"
    images.append(f"multi/{prefix}{card.picture}")
  others = [card.caption for card in cards[clues + 1 :]]
  captions, finding = _options(
    rng,
    needle.caption,
    [needle.caption, *others],
  )
  shapes, answering = _options(rng, needle.shape, SHAPES)
  start = (
    f"Find the frame of {cards[0].caption}. Locate the final frame based on the instructions in "
    "the image, and "
  )
  choose = "choose the captions that best describe the frame: "
  answer = f"answer the following question based on the final frame: {_ASKED['shape']}"
  return dict(
    images=[images[place] for place in rng.permutation(len(images))],
    question1=_with_options(start + choose, captions),
    answer1=finding,
    question2=_with_options(start + answer, shapes),
    answer2=answering,
  )


def _draw_chain(
  rng: Generator,
  clues: int,
  split: str,
) -> list[Card] | None:
  """Clues, needle and decoys with different keys; None if the draw fails.

  Decoys mislead: they point at other cards of the video, or end a chain.
  """
  keys = rng.permutation(KEYS)[: clues + 1 + DECOYS].tolist()
  pointers = [*keys[1 : clues + 1], END]
  for key in keys[clues + 1 :]:
    others = [other for other in keys if other != key]
    pointers.append(str(rng.choice([END, *others])))
  cards = []
  for key, pointer in zip(keys, pointers, strict=True):
    card = draw_kind(rng, split, key, pointer)
    if card is None:
      return None
    cards.append(card)
  return cards


def _asked_cards(
  count: int,
  seed: int,
  split: str,
):
  """(rng, card, what is asked of it) of single-hop questions.

  Neighbouring cards differ in their keys.
  """
  for number in range(-(-count // len(_ASKED))):
    rng = np.random.default_rng([seed, 1, number])
    round_rng = np.random.default_rng([seed, 3, number // len(KEYS)])
    key = round_rng.permutation(KEYS)[number % len(KEYS)]
    card = draw_kind(rng, split, str(key))
    if card is None:
      raise RuntimeError(f"The split {split} has no card with the key {key}.")
    for place, aspect in enumerate(_ASKED):
      if number * len(_ASKED) + place < count:
        yield rng, card, aspect


def _possible(card: Card, aspect: str) -> list[str]:
  """All answers that a question about a card may have."""
  if aspect == "shape":
    return list(SHAPES)
  return [colour for colour in POINTERS if colour != card.key]


def _options(
  rng: Generator,
  right: str,
  possible: Sequence[str],
) -> tuple[list[str], str]:
  """(four options in random order, the letter of the right one)."""
  others = [word for word in possible if word != right]
  chosen = rng.permutation(others)[: len(LETTERS) - 1].tolist()
  place = int(rng.integers(len(LETTERS)))
  chosen.insert(place, right)
  return chosen, LETTERS[place]


def _with_options(question: str, words: Sequence[str]) -> str:
  """The question as the released files write it."""
  lines = []
  for letter, word in zip(LETTERS, words, strict=True):
    lines.append(f"({letter}) {word}")
  options = "\n".join(lines)
  return f"{question}\nOptions: {options}\nOnly give the best option. Best option: ("


def write_records(
  folder: str | os.PathLike, name: str, records: Sequence[Record], side: int
) -> str:
  """Writes a needle file with its pictures.

  They are `side` pixels wide. Returns the path of the file.
  """
  from PIL import Image

  folder = pathlib.Path(folder)
  for record in records:
    for picture in record.get("images", [record.get("image", record.get("path"))]):
      path = folder / picture
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(draw_card(card_of(picture), side)).save(path)
  path = folder / name
  with files.write_atomically(path) as file:
    file.write((json.dumps(list(records), indent=1) + "\n").encode())
  return str(path)
