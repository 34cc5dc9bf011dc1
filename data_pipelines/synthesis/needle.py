# SPDX-License-Identifier: Apache-2.0
"""Needles, lures and haystacks of one generator, for tests of retrieval from long videos.

The haystack is an endless stream of scenes of the toy corpus (data_pipelines.synthesis.shapes). A
needle is a card: a still with a band of its key colour on top, a dark shape on white, and a band of
its pointer colour below, white at the end of a chain. A lure is a card without bands. The name of a
card's picture holds all that is needed to draw it.

Kinds of cards and seeds of drawings are divided between training and test (`split_of`), so a model
that was trained on one part has never seen the other.
"""

from collections.abc import Iterator
import dataclasses
import hashlib
import itertools
import pathlib
import re

import numpy as np
from numpy.random import Generator

from data_pipelines.synthesis.shapes import COLOURS, SHAPES, Shot, film, shape_mask

KEYS = tuple(COLOURS)
END = "white"  # The pointer of the last card of a chain.
POINTERS = (*KEYS, END)
CLIP = 12  # Scenes and lures last whole multiples of these frames: whole clips of 2, 3, 4 and 6.
LURE_EVERY = 8  # One of this many scenes is a lure.
HELD_OUT = 4  # One of this many kinds and one of this many seeds are for tests.
# Grey of the corpus is nearly white, and would be taken for a card's paper.
_BANDS = COLOURS | dict(grey=(120, 120, 120), white=(250, 250, 250))
_PAPER = 235
_INK = (30, 30, 36)
_BAND = (0.21, 0.23)  # Height of a band, as a share of the side.
_RADIUS = (0.21, 0.24)
_JITTER = 0.04
_SCENE_CLIPS = (2, 5)  # Fewest and most multiples of CLIP of a scene.
_SPLITS = dict(train=0, test=1)
_NAME = re.compile(r"(?P<key>[a-z]+)-(?P<shape>[a-z]+)-(?P<pointer>[a-z]+)-(?P<seed>[0-9]+)\.png")


@dataclasses.dataclass(frozen=True)
class Card:
  """What a card shows.

  `seed` decides place, light and noise of the drawing.
  """

  key: str
  shape: str
  pointer: str
  seed: int

  @property
  def kind(self) -> str:
    """The kind of the card, which belongs to one split."""
    return f"{self.key} {self.shape} {self.pointer}"

  @property
  def picture(self) -> str:
    """The file name of its picture."""
    return f"{self.key}-{self.shape}-{self.pointer}-{self.seed}.png"

  @property
  def caption(self) -> str:
    """A description that does not tell shape and pointer."""
    article = "an" if self.key[0] in "aeiou" else "a"
    return f"a card with {article} {self.key} band on top"


def split_of(key: str, seed: int) -> str:
  """The split of a kind of card (`Card.kind`) drawn with a seed.

  "test" if both kind and seed are held out, "train" if neither is, "" otherwise. A haystack scene
  has no kind: key "" leaves the decision to the seed.
  """
  seed_held = _is_held_out(f"seed {seed}")
  kind_held = _is_held_out(f"kind {key}") if key else seed_held
  if kind_held != seed_held:
    return ""
  return "test" if kind_held else "train"


def _is_held_out(text: str) -> bool:
  digest = hashlib.sha256(text.encode()).digest()
  return digest[0] % HELD_OUT == 0


def draw_kind(
  rng: Generator,
  split: str,
  key: str,
  pointer: str = "",
) -> Card | None:
  """Draws a card of a split with this key.

  Also with this pointer, unless "". None if the split has no such kind.
  """
  pointers = [pointer] if pointer else [colour for colour in POINTERS if colour != key]
  seed = draw_seed(rng, split)
  cards = []
  for shape, colour in itertools.product(SHAPES, pointers):
    card = Card(key, shape, colour, seed)
    if split_of(card.kind, seed) == split:
      cards.append(card)
  return cards[rng.integers(len(cards))] if cards else None


def draw_seed(rng: Generator, split: str) -> int:
  """Draws a seed of a split."""
  _check_split(split)
  while True:
    seed = int(rng.integers(1 << 31))
    if split_of("", seed) == split:
      return seed


def card_of(name: str) -> Card:
  """The card of a picture's name, with or without folder and prefix.

  Raises ValueError for another name.
  """
  match = _NAME.search(pathlib.PurePath(name).name.rpartition("_")[2])
  if match is not None:
    card = Card(
      match["key"],
      match["shape"],
      match["pointer"],
      int(match["seed"]),
    )
    if card.key in KEYS and card.shape in SHAPES and card.pointer in POINTERS:
      return card
  raise ValueError(f"{name} is not a name of a card, such as single/blue-ring-white-7.png.")


def draw_card(card: Card, side: int) -> np.ndarray:
  """The picture of a card: uint8 [side side 3]."""
  rng = np.random.default_rng([card.seed, POINTERS.index(card.key), SHAPES.index(card.shape)])
  return _draw(rng, card.key, card.shape, card.pointer, side)


def draw_lure(seed: int, side: int) -> np.ndarray:
  """A card without bands: uint8 [side side 3]."""
  rng = np.random.default_rng([seed, len(POINTERS)])
  shape = str(rng.choice(SHAPES))
  return _draw(rng, END, shape, END, side)


def _draw(
  rng: Generator,
  key: str,
  shape: str,
  pointer: str,
  side: int,
) -> np.ndarray:
  """Paper with a shape, the key's band on top, the pointer's below."""
  picture = np.full((side, side, 3), _PAPER, np.float64)
  middle = side * (0.5 + rng.uniform(-_JITTER, _JITTER, (1, 2)))
  radius = side * rng.uniform(*_RADIUS)
  (ink,) = shape_mask(
    shape,
    middle.astype(np.float32),
    radius,
    side,
  )
  picture[ink] = _INK
  for colour, from_top in ((key, True), (pointer, False)):
    height = round(side * rng.uniform(*_BAND))
    rows = slice(0, height) if from_top else slice(side - height, side)
    picture[rows] = np.array(_BANDS[colour]) + rng.normal(0, 6, 3)
  light = rng.uniform(-12, 5)
  noise = rng.normal(0, 4, picture.shape)
  return np.clip(picture + light + noise, 0, 255).astype(np.uint8)


def haystack_scenes(
  seed: int,
  split: str,
  side: int,
) -> Iterator[np.ndarray]:
  """Yields the scenes of an endless video.

  A scene is uint8 [t side side 3]; t is a multiple of CLIP. One scene in LURE_EVERY is a lure. The
  same arguments give the same scenes.
  """
  _check_split(split)
  rng = np.random.default_rng([seed, _SPLITS[split]])
  while True:
    scene_seed = draw_seed(rng, split)
    if rng.integers(LURE_EVERY) == 0:
      yield np.repeat(
        draw_lure(scene_seed, side)[None],
        CLIP,
        axis=0,
      )
    else:
      yield _draw_scene(scene_seed, side)


def _draw_scene(seed: int, side: int) -> np.ndarray:
  """A nearly still scene: a bright shape on a dark background."""
  rng = np.random.default_rng(seed)
  fewest, largest = _SCENE_CLIPS
  frames = CLIP * int(rng.integers(fewest, largest + 1))
  background, colour = rng.permutation(list(COLOURS))[:2]
  shape = str(rng.choice(SHAPES))
  shot = Shot(
    str(background),
    shape,
    str(colour),
    0,
    frames,
    False,
  )
  return film(rng, [shot], side)


def haystack_parts(
  seed: int,
  split: str,
  side: int,
  count: int,
  part: int,
) -> Iterator[np.ndarray]:
  """The first `count` frames of a haystack, `part` at a time.

  Only one part and one scene are in memory: uint8 [part side side 3], the last one shorter.
  """
  scenes = haystack_scenes(seed, split, side)
  rest = np.zeros((0, side, side, 3), np.uint8)
  for first in range(0, count, part):
    size = min(part, count - first)
    pieces = [rest]
    while sum(map(len, pieces)) < size:
      pieces.append(next(scenes))
    frames = np.concatenate(pieces)
    rest = frames[size:]
    yield frames[:size]


def draw_hint(picture: np.ndarray, text: str) -> np.ndarray:
  """Writes an instruction onto a clue picture u8 [h w 3].

  It stands in a dark band at the bottom.
  """
  from PIL import Image, ImageDraw, ImageFont

  height, width, _ = picture.shape
  canvas = Image.fromarray(np.ascontiguousarray(picture))
  pen = ImageDraw.Draw(canvas, "RGBA")
  size = max(8, height // 14)
  font = ImageFont.load_default(size)
  lines = _wrapped(pen, text, font, width - size)
  line_height = round(size * 1.25)
  top = height - line_height * len(lines) - size // 2
  pen.rectangle((0, top, width, height), fill=(0, 0, 0, 200))
  for number, line in enumerate(lines):
    pen.text(
      (size // 2, top + size // 4 + number * line_height),
      line,
      "white",
      font,
    )
  return np.asarray(canvas)


def _wrapped(
  pen,
  text: str,
  font,
  width: int,
) -> list[str]:
  """Lines of words that fit into `width` pixels."""
  lines: list[str] = []
  line = ""
  for word in text.split():
    longer = f"{line} {word}".strip()
    if line and pen.textlength(longer, font) > width:
      lines.append(line)
      line = word
    else:
      line = longer
  return [*lines, line]


def _check_split(split: str) -> None:
  if split not in _SPLITS:
    raise ValueError(f"The split {split!r} is unknown. Set it to {' or '.join(_SPLITS)}.")
