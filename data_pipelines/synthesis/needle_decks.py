# SPDX-License-Identifier: Apache-2.0
"""Decks of cards for one video, and questions about the cards that are answered in words.

The cards are those of synthesis/needle.py. No two cards of a deck have the same key, so the key in
a question tells which card is meant.
"""

from collections.abc import Sequence
import dataclasses
import itertools
from typing import Any

from numpy.random import Generator

from data_pipelines.synthesis.needle import END, KEYS, POINTERS, Card, draw_seed, split_of
from data_pipelines.synthesis.shapes import SHAPES

DECOYS = 3  # Cards of a deck that do not belong to its chain.
LONGEST = 3  # The most clues of a chain.

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class CardDeck:
  """The cards of a video.

  The first `links` of them form a chain.
  """

  cards: tuple[Card, ...]
  links: int = 0


class CardPool:
  """The cards of a split, by key and pointer."""

  def __init__(self, rng: Generator, split: str, drawings: int):
    self._cards: dict[tuple[str, str], list[Card]] = {}
    for key, shape, pointer in itertools.product(KEYS, SHAPES, POINTERS):
      for _ in range(drawings):
        seed = draw_seed(rng, split)
        card = Card(key, shape, pointer, seed)
        is_of_split = split_of(card.kind, seed) == split
        if is_of_split and pointer != key:
          cards = self._cards.setdefault((key, pointer), [])
          cards.append(card)

  def all_cards(self) -> list[Card]:
    """Every card."""
    return list(itertools.chain.from_iterable(self._cards.values()))

  def has(self, key: str, pointer: str) -> bool:
    """Whether the split has a card with this key and pointer."""
    return (key, pointer) in self._cards

  def draw(self, rng: Generator, key: str, pointers: Sequence[str]) -> Card:
    """A random card with this key and one of the pointers.

    Raises ValueError if there is no such card.
    """
    present = [pointer for pointer in pointers if self.has(key, pointer)]
    if not present:
      raise ValueError(f"There is no {key} card that points to {' or '.join(pointers)}.")
    cards = self._cards[key, str(rng.choice(present))]
    return cards[rng.integers(len(cards))]


def draw_single_deck(rng: Generator, pool: CardPool, count: int) -> CardDeck:
  """`count` cards with different keys and any pointers."""
  cards = []
  for key in rng.permutation(KEYS)[:count]:
    cards.append(pool.draw(rng, str(key), POINTERS))
  return CardDeck(tuple(cards))


def draw_chain_deck(rng: Generator, pool: CardPool, clues: int) -> CardDeck:
  """A chain of `clues` cards and its last card, followed by decoys.

  About half of the decoys look like the end of a chain. The others point to a card of the deck.
  """
  keys, pointers = _draw_links(rng, pool, clues)
  cards = []
  for key, pointer in zip(keys, pointers, strict=False):
    card = pool.draw(rng, key, (pointer,))
    cards.append(card)
  for key in keys[len(pointers) :]:
    targets = [END] if rng.random() < 0.5 else keys
    present = [target for target in targets if pool.has(key, target)]
    decoy = pool.draw(rng, key, present or POINTERS)
    cards.append(decoy)
  return CardDeck(tuple(cards), links=len(pointers))


def _draw_links(rng: Generator, pool: CardPool, clues: int) -> tuple[list[str], list[str]]:
  """Draws the keys of all cards and the pointers of the chain."""
  while True:
    order = rng.permutation(KEYS)[: clues + 1 + DECOYS]
    keys = list(map(str, order))
    pointers = [*keys[1 : clues + 1], END]
    if all(map(pool.has, keys, pointers)):
      return keys, pointers


def shape_question(card: Card) -> tuple[str, str]:
  """(question, answer) about the shape of a card."""
  return f"What shape is on the {card.key} card?", card.shape


def pointer_question(card: Card) -> tuple[str, str]:
  """(question, answer) about the colour to which a card points."""
  return f"Which colour does the {card.key} card point to?", card.pointer


def way_question(chain: Sequence[Card]) -> tuple[str, str]:
  """(question, answer) about the cards after the first of a chain."""
  words = _following_keys(chain)
  words.append(END)
  return f"Which cards follow the {chain[0].key} card?", " ".join(words)


def end_question(chain: Sequence[Card]) -> tuple[str, str]:
  """(question, answer) about these cards and the last one's shape."""
  words = _following_keys(chain)
  words.append(chain[-1].shape)
  return f"What shape ends the way from the {chain[0].key} card?", " ".join(words)


def _following_keys(chain: Sequence[Card]) -> list[str]:
  return [card.key for card in chain[1:]]


def single_items(rng: Generator, pool: CardPool, count: int) -> list[Record]:
  """Needle questions with answers in words.

  They have the fields of LongVA's file. Each card has two questions, which follow one another:
  about its shape and about its pointer. A pointer may be white, or any colour except that of the
  key.
  """
  items = []
  for number in range(count):
    card = pool.draw(rng, KEYS[number % len(KEYS)], POINTERS)
    items.append(_single_item(card, shape_question(card), len(SHAPES)))
    items.append(_single_item(card, pointer_question(card), len(POINTERS) - 1))
  return items


def _single_item(card: Card, dialogue: tuple[str, str], answers: int) -> Record:
  question, answer = dialogue
  return dict(prompt=question, answer=answer, path=f"single/{card.picture}", chance=1 / answers)


def chain_items(rng: Generator, pool: CardPool, count: int) -> list[Record]:
  """Chain questions with answers in words.

  They have the fields of VideoChat-Flash's file. Both answers first name the cards on the way to
  the last card. `chance` is that of guessing the shape of the last card, although the cards on the
  way must be right, too.
  """
  return [_chain_item(rng, pool, number) for number in range(count)]


def _chain_item(rng: Generator, pool: CardPool, number: int) -> Record:
  deck = draw_chain_deck(rng, pool, 1 + number % LONGEST)
  chain = deck.cards[: deck.links]
  images = []
  for place, card in enumerate(deck.cards):
    is_needle = place == deck.links - 1
    prefix = "" if is_needle else f"niah_{number}_{place + 1}_"
    images.append(f"multi/{prefix}{card.picture}")
  way, keys = way_question(chain)
  end, shape = end_question(chain)
  order = rng.permutation(len(images))
  return dict(
    images=[images[place] for place in order],
    question1=way,
    answer1=keys,
    question2=end,
    answer2=shape,
    chance=1 / len(SHAPES),
  )
