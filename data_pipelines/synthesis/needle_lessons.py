# SPDX-License-Identifier: Apache-2.0
"""Lessons about cards in long videos, for a small model that shall find needles, and its tests.

  python -m data_pipelines.synthesis.needle_lessons --out runs/needles/corpus

A lesson is a video of haystack scenes with several cards (synthesis/needle.py), and up to eight
questions about them in words: the shape of a card, the colour that it points to, and the way from
card to card to the last one. No two cards of a video have the same key, so the key tells which one
is meant. Lessons last from 16 to 1,024 seconds, one frame a second; a caption shows one clip.

  captions.jsonl           for the first stage
  lessons-<frames>.jsonl   for the following ones
  valid-<frames>.jsonl     other kinds of cards in other scenes, a question each: for choices
  test/                    cards and scenes drawn apart once more, for `filax evals niah`:
                           single.json, chains.json, haystack.mp4 of 10,000 frames
  haystack/, cards/        what the lessons show; tokenizer.model knows their words
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
import itertools
import pathlib
from typing import Any

import numpy as np
from numpy.random import Generator

from data_pipelines.sample import IMAGE
from data_pipelines.synthesis import corpus_files, draw
from data_pipelines.synthesis.needle import KEYS, POINTERS, Card, draw_card, haystack_parts
from data_pipelines.synthesis.needle_decks import (
  LONGEST,
  CardDeck,
  CardPool,
  chain_items,
  draw_chain_deck,
  draw_single_deck,
  end_question,
  pointer_question,
  shape_question,
  single_items,
  way_question,
)
from data_pipelines.synthesis.needle_questions import write_records
from data_pipelines.synthesis.shards import OutputFolder, json_line, open_output
from filax import files

SIDE = 48  # Pixels: those of the toy encoders.
CLIP = 4  # Frames and seconds of a clip, and so of a card.
TURNS = 8  # Questions of a lesson at most.
CAPTION = "What is shown?"
VERSION = 1  # Raise it with any change of the corpus.
_PART = 240  # Frames drawn at a time.
_TOKENIZER_RECORDS = 2000

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class LessonOptions:
  """What to make; lengths are frames at one a second."""

  videos: int = 240  # Haystack files for training.
  seconds: int = 480  # The length of each.
  drawings: int = 12  # Drawings of every kind of card.
  captions: int = 12_000
  lessons: tuple[tuple[int, int], ...] = ((16, 16_000), (64, 12_000), (256, 4000), (1024, 1200))
  valid: tuple[tuple[int, int], ...] = ((16, 200), (64, 200), (256, 200), (1024, 100))
  test_frames: int = 10_000
  test_cards: int = 10  # Each asked for its shape and its pointer.
  test_chains: int = 20
  seed: int = 0


def lesson_questions(rng: Generator, deck: CardDeck) -> list[tuple[str, str]]:
  """At most TURNS questions about a deck, in random order.

  Those about its chain are always among them.
  """
  chain = deck.cards[: deck.links]
  questions = []
  for first in range(deck.links - 1):
    questions.append(way_question(chain[first:]))
    questions.append(end_question(chain[first:]))
  rest = [*map(shape_question, deck.cards), *map(pointer_question, deck.cards)]
  rng.shuffle(rest)
  questions += rest
  questions = questions[:TURNS]
  rng.shuffle(questions)
  return questions


@dataclasses.dataclass(frozen=True)
class Haystack:
  """Files of equal length, shown one after another."""

  media: tuple[str, ...]
  seconds: int

  def stretches(self, start: int, seconds: int) -> Iterator[tuple[str, int, int]]:
    """Yields (file, begin, end) from second `start` of all files on."""
    while seconds > 0:
      number, begin = divmod(start, self.seconds)
      length = min(seconds, self.seconds - begin)
      medium = self.media[number % len(self.media)]
      yield medium, begin, begin + length
      start += length
      seconds -= length


class _Timeline:
  """Scenes one after another, in whole seconds."""

  def __init__(self, haystack: Haystack, start: int):
    self.scenes: list[Record] = []
    self._haystack = haystack
    self._start = start  # The next second of the haystack.
    self._second = 0  # The next second of the timeline.

  def add_haystack(self, end: int) -> None:
    """Goes on with the haystack up to second `end` of the timeline."""
    seconds = end - self._second
    for medium, t0, t1 in self._haystack.stretches(self._start, seconds):
      self._add(medium, "video", t0, t1)
    self._start += seconds

  def add_card(self, card: Card) -> None:
    """Shows a card for one clip."""
    self._add(f"cards/{card.picture}", "still", 0, CLIP)

  def _add(self, medium: str, kind: str, t0: int, t1: int) -> None:
    scene = dict(media=medium, kind=kind, t0=t0, t1=t1, at=self._second)
    self.scenes.append(scene)
    self._second += t1 - t0


def lesson_scenes(
  rng: Generator,
  cards: Sequence[Card],
  haystack: Haystack,
  frames: int,
) -> list[Record]:
  """Cards in random clips of a stretch of haystack."""
  clips = frames // CLIP
  places = rng.permutation(clips)[: len(cards)]
  card_of_clip = dict(zip(places.tolist(), cards, strict=True))
  starts = len(haystack.media) * haystack.seconds // CLIP
  timeline = _Timeline(haystack, CLIP * int(rng.integers(starts)))
  for clip in sorted(card_of_clip):
    timeline.add_haystack(CLIP * clip)
    timeline.add_card(card_of_clip[clip])
  timeline.add_haystack(frames)
  return timeline.scenes


def lesson_record(
  rng: Generator,
  name: str,
  pool: CardPool,
  haystack: Haystack,
  frames: int,
) -> Record:
  """A lesson of `frames` seconds.

  Half of the lessons with room for a chain hold one.
  """
  clips = frames // CLIP
  if clips > TURNS and rng.random() < 0.5:
    clues = int(rng.integers(1, LONGEST + 1))
    deck = draw_chain_deck(rng, pool, clues)
  else:
    room = min(len(KEYS), clips)
    count = int(rng.integers(room // 2, room + 1))
    deck = draw_single_deck(rng, pool, count)
  scenes = lesson_scenes(rng, deck.cards, haystack, frames)
  return _record(name, scenes, lesson_questions(rng, deck))


def valid_record(
  rng: Generator,
  name: str,
  pool: CardPool,
  haystack: Haystack,
  frames: int,
) -> Record:
  """One of the questions of a lesson, with its kind."""
  record = lesson_record(rng, name, pool, haystack, frames)
  turns = record["conversations"]
  first = 2 * int(rng.integers(len(turns) // 2))
  question, answer = turns[first : first + 2]
  text = question["value"].removeprefix(f"{IMAGE}\n")
  question = dict(question, value=f"{IMAGE}\n{text}")
  begin, _, _ = text.partition(" the ")
  kind = begin.replace(" ", "_").lower()
  return record | dict(kind=kind, conversations=[question, answer])


def caption_record(rng: Generator, name: str, pool: CardPool, haystack: Haystack) -> Record:
  """The caption of one clip: two of three show a card."""
  words = "scene"
  cards: list[Card] = []
  if rng.random() < 2 / 3:
    card = pool.draw(rng, str(rng.choice(KEYS)), POINTERS)
    cards = [card]
    words = f"{card.key} {card.shape} {card.pointer}"
  scenes = lesson_scenes(rng, cards, haystack, CLIP)
  return _record(name, scenes, [(CAPTION, words)])


def _record(name: str, scenes: Sequence[Record], questions: Sequence[tuple[str, str]]) -> Record:
  turns = []
  for number, (question, answer) in enumerate(questions):
    text = question if number else f"{IMAGE}\n{question}"
    turns.append({"from": "human", "value": text})
    turns.append({"from": "gpt", "value": answer})
  return dict(id=name, scenes=list(scenes), conversations=turns)


def write_lessons(folder: str | pathlib.Path, options: LessonOptions) -> dict[str, int]:
  """Makes or completes the corpus; returns the records of every file.

  The same options give the same corpus. Raises ValueError if the folder holds another one.
  """
  recipe = dataclasses.asdict(options) | dict(kind="needle lessons", version=VERSION)
  counts = {"captions.jsonl": options.captions}
  for frames, count in options.lessons:
    counts[f"lessons-{frames}.jsonl"] = count
  for frames, count in options.valid:
    counts[f"valid-{frames}.jsonl"] = count
  with open_output(folder, recipe, force=False) as output:
    if output.is_complete:
      return counts
    for name in ("haystack", "cards", "test"):
      (output.path / name).mkdir(exist_ok=True)
    spoken = _write_records(output, options)
    corpus_files.train_tokenizer(output.path, spoken)
    _write_test(output.path, _generator(options.seed, "test"), options)
    output.mark_complete(counts=counts)
  return counts


def _write_records(output: OutputFolder, options: LessonOptions) -> list[Record]:
  """Writes cards, haystacks and all records; returns some of the records."""
  train = CardPool(_generator(options.seed, "cards", "train"), "train", options.drawings)
  held = CardPool(_generator(options.seed, "cards", "valid"), "test", options.drawings)
  for card in (*train.all_cards(), *held.all_cards()):
    _write_card(output.path, card)
  haystack, valid_haystack = _write_haystacks(output.path, options)
  caption = functools.partial(caption_record, pool=train, haystack=haystack)
  lesson = functools.partial(lesson_record, pool=train, haystack=haystack)
  question = functools.partial(valid_record, pool=held, haystack=valid_haystack)
  spoken = _write_file(output, "captions", options.captions, options.seed, caption)
  for frames, count in options.lessons:
    record = functools.partial(lesson, frames=frames)
    spoken += _write_file(output, f"lessons-{frames}", count, options.seed, record)
  for frames, count in options.valid:
    record = functools.partial(question, frames=frames)
    _write_file(output, f"valid-{frames}", count, options.seed, record)
  return spoken


def _write_file(
  output: OutputFolder,
  name: str,
  count: int,
  seed: int,
  record: Callable[[Generator, str], Record],
) -> list[Record]:
  """Writes `count` records; returns the first ones, for the tokenizer."""
  rng = _generator(seed, "records", name)
  records = [record(rng, f"{name}-{number:06d}") for number in range(count)]
  with output.shard(f"{name}.jsonl") as shard:
    for line in map(json_line, records):
      shard.write(line)
  return records[:_TOKENIZER_RECORDS]


def _generator(seed: int, *names: object) -> Generator:
  return np.random.default_rng(draw.digest(seed, "lessons", *names))


def _write_card(folder: pathlib.Path, card: Card) -> None:
  from PIL import Image

  path = folder / "cards" / card.picture
  if not path.exists():
    with files.write_atomically(path) as file:
      Image.fromarray(draw_card(card, SIDE)).save(file, format="PNG")


def _write_haystacks(folder: pathlib.Path, options: LessonOptions) -> list[Haystack]:
  """The haystacks of training and of validation, in all processes."""
  stacks = []
  jobs = []
  longest = max((frames for frames, _ in options.valid), default=options.seconds)
  for split, count in (("train", options.videos), ("test", -(-4 * longest // options.seconds))):
    names = [f"haystack/{split}-{number:04d}.mp4" for number in range(count)]
    for number, name in enumerate(names):
      seed = int(_generator(options.seed, "haystack", split, number).integers(1 << 31))
      jobs.append((folder / name, seed, split, options.seconds))
    stacks.append(Haystack(tuple(names), options.seconds))
  corpus_files.in_processes(write_haystack, jobs)
  return stacks


def write_haystack(path: pathlib.Path, seed: int, split: str, seconds: int) -> None:
  """Writes a haystack of one frame a second, unless it exists."""
  if path.exists():
    return
  parts = haystack_parts(seed, split, SIDE, seconds, _PART)
  corpus_files.write_small_video(path, itertools.chain.from_iterable(parts), 1)


def _write_test(folder: pathlib.Path, rng: Generator, options: LessonOptions) -> None:
  """Needle files and the haystack of the test."""
  pool = CardPool(rng, "test", 1)
  singles = single_items(rng, pool, options.test_cards)
  chains = chain_items(rng, pool, options.test_chains)
  write_records(folder / "test", "single.json", singles, SIDE)
  write_records(folder / "test", "chains.json", chains, SIDE)
  seed = int(rng.integers(1 << 31))
  write_haystack(folder / "test" / "haystack.mp4", seed, "test", options.test_frames)


def main(argv: Sequence[str] | None = None) -> None:
  """Makes the corpus from the command line."""
  parser = argparse.ArgumentParser(
    prog="python -m data_pipelines.synthesis.needle_lessons",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--out", required=True, help="folder of the corpus")
  parser.add_argument("--seed", type=int, default=0, help="another seed draws other videos")
  parser.add_argument("--small", action="store_true", help="a fiftieth of it, to look at")
  args = parser.parse_args(argv)
  options = LessonOptions(seed=args.seed)
  if args.small:
    options = small_options(options)
  counts = write_lessons(args.out, options)
  for name, count in counts.items():
    print(f"{args.out}/{name}: {count:,} records")


def small_options(options: LessonOptions) -> LessonOptions:
  """The same corpus with a fiftieth of its records."""
  return dataclasses.replace(
    options,
    videos=4,
    drawings=2,
    captions=options.captions // 50,
    test_frames=1000,
    lessons=_fewer(options.lessons),
    valid=_fewer(options.valid),
  )


def _fewer(counts: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
  return tuple((frames, max(4, count // 50)) for frames, count in counts)


if __name__ == "__main__":
  main()
