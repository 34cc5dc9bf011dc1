# SPDX-License-Identifier: Apache-2.0
"""Manifests of needle questions for training, and held-out ones of other kinds of cards.

Questions and cards come from synthesis/needle_questions.py, as do those of the retrieval tests. The
video of a record is a timeline: stretches of a haystack (a long video), and between them cards,
which are shown as still pictures. Held-out questions have other kinds of cards and other haystacks.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import math
import os
import pathlib
from typing import Any, NamedTuple

from data_pipelines.media.encoder import write_h264
from data_pipelines.media.index import MediaIndex
from data_pipelines.sample import IMAGE
from data_pipelines.synthesis import draw
from data_pipelines.synthesis.needle import card_of, draw_card, haystack_parts
from data_pipelines.synthesis.needle_questions import chain_records, choice_records
from data_pipelines.synthesis.shards import (
  OutputFolder,
  input_facts,
  json_line,
  open_output,
  shard_names,
)
from data_pipelines.synthesis.splits import HELD_OUT, TRAIN, source_key
from filax import files

VERSION = 1  # Raise it with any change of the records.
HOPS = ("single", "multi", "both")
HELD_OUT_FILE = "held_out.jsonl"
DRAWN_HAYSTACKS = 4  # Videos of each split.
_SPLITS = {TRAIN: "train", HELD_OUT: "test"}  # Names of the generator of cards.
_KINDS = {"single": "needle", "multi": "needle_chain"}
_ANSWER_START = " Best option: ("  # The evaluation writes it before the answer.
_SHARD = 10_000  # Records.
_PART = 256  # Frames drawn at a time.
_QUALITY = {"crf": "18", "preset": "veryfast", "g": "12"}


@dataclasses.dataclass(frozen=True)
class NeedleSetOptions:
  """The settings of a set of needle questions."""

  count: int = 1000  # Questions for training.
  held_out: int = 100
  seconds: float = 64.0  # The length of the haystack in a video.
  needle_seconds: float = 4.0  # How long a card is shown: one clip of 4 frames at 1 fps.
  hops: str = "both"  # One of HOPS.
  haystack: tuple[str, ...] = ()  # Videos; without them, haystacks are drawn.
  side: int = 96  # Pixels of drawn pictures and videos.
  seed: int = 0

  def recipe(self) -> dict[str, Any]:
    """What decides the records, for JSON."""
    options = dataclasses.asdict(self) | dict(haystack=input_facts(self.haystack))
    return dict(kind="needles", version=VERSION, **options)


class Stretch(NamedTuple):
  """A part of a file that can be shown, in seconds."""

  media: str
  start: float
  end: float


def write_needles(
  out: str | os.PathLike,
  options: NeedleSetOptions,
  *,
  force: bool = False,
) -> dict[str, int]:
  """Writes records, cards and drawn haystacks to a folder.

  Returns the records of every split.
  Raises ValueError for unusable options or haystacks, and for a folder that holds anything else.
  """
  if options.hops not in HOPS:
    raise ValueError(f"--hops {options.hops} is none of {', '.join(HOPS)}.")
  try:
    recipe = options.recipe()
  except OSError as error:
    raise ValueError(f"--haystack {error.filename} cannot be read: {error.strerror}.") from error
  stretches = _given_stretches(options) if options.haystack else {}
  counts = {TRAIN: options.count, HELD_OUT: options.held_out}
  with open_output(out, recipe, force) as output:
    if output.is_complete:
      return counts
    for split, count in counts.items():
      if not count:
        continue
      haystack = stretches.get(split) or _drawn_stretches(output.path, split, options)
      _write_split(output, split, count, haystack, options)
    output.mark_complete(counts=counts)
  return counts


def _given_stretches(options: NeedleSetOptions) -> dict[str, list[Stretch]]:
  """The haystacks of every split, from the user's files.

  A quarter of the source videos is held out, and at least one. If there is only one source video,
  its last quarter is held out.
  """
  probes = MediaIndex(progress=None).probes(options.haystack)
  videos: dict[str, list[Stretch]] = {}
  for path, probe in probes.items():
    if probe.error or probe.duration <= 0:
      raise ValueError(f"--haystack {path} is not a video: {probe.error or 'it has no duration'}.")
    end = int(probe.duration * 1000) / 1000
    videos.setdefault(_key(path), []).append(Stretch(os.path.abspath(path), 0.0, end))
  keys = draw.shuffled(sorted(videos), options.seed, "haystack")
  if len(keys) == 1:
    train = []
    held_out = []
    for stretch in videos[keys[0]]:
      border = round(0.75 * stretch.end, 3)
      train.append(stretch._replace(end=border))
      held_out.append(stretch._replace(start=border))
    return {TRAIN: train, HELD_OUT: held_out}
  limit = max(1, len(keys) // 4)
  split_keys = {TRAIN: keys[limit:], HELD_OUT: keys[:limit]}
  return {split: _stretches_of(videos, keys) for split, keys in split_keys.items()}


def _stretches_of(videos: Mapping[str, list[Stretch]], keys: Sequence[str]) -> list[Stretch]:
  stretches = []
  for key in keys:
    stretches.extend(videos[key])
  return stretches


def _key(path: str) -> str:
  try:
    return source_key(path)
  except ValueError:
    return path


def _drawn_stretches(folder: pathlib.Path, split: str, options: NeedleSetOptions) -> list[Stretch]:
  """Draws haystacks, and writes them as videos of one frame per second."""
  stretches = []
  count = max(1, math.ceil(options.seconds))
  for number in range(DRAWN_HAYSTACKS):
    name = f"haystack/{split}-{number}.mp4"
    seed = draw.digest(options.seed, "haystack", number) >> 33
    parts = haystack_parts(seed, _SPLITS[split], options.side, count, _PART)
    frames = itertools.chain.from_iterable(parts)
    with files.write_atomically(folder / name) as file:
      write_h264(file, frames, 1, _QUALITY, threads=1)
    stretches.append(Stretch(name, 0.0, float(count)))
  return stretches


def _write_split(
  output: OutputFolder,
  split: str,
  count: int,
  haystack: Sequence[Stretch],
  options: NeedleSetOptions,
) -> None:
  names = [HELD_OUT_FILE]
  if split == TRAIN:
    names = shard_names(TRAIN, math.ceil(count / _SHARD))
  records = _records(output.path, split, count, haystack, options)
  for number, name in enumerate(names):
    first = number * count // len(names)
    stop = (number + 1) * count // len(names)
    with output.shard(name) as shard:
      for _ in range(first, stop):
        shard.write(json_line(next(records)))


def _records(
  folder: pathlib.Path,
  split: str,
  count: int,
  haystack: Sequence[Stretch],
  options: NeedleSetOptions,
) -> Iterator[dict[str, Any]]:
  """The records of a split; writes the cards that they show."""
  for number, (hop, question) in enumerate(_questions(split, count, options)):
    for picture in question["images"]:
      _write_card(folder / "cards" / picture, options.side)
    name = f"needle-{split}-{number:07d}"
    depth = draw.unit(options.seed, "depth", name)
    scenes = _timeline(question["images"], depth, haystack, options, name)
    text = question["question"].removesuffix(_ANSWER_START)
    yield {
      "id": name,
      "kind": _KINDS[hop],
      "scenes": scenes,
      "conversations": [
        {"from": "human", "value": f"{IMAGE}\n{text}"},
        {"from": "gpt", "value": question["answer"]},
      ],
      "made": {
        "source": "needles",
        "hop": hop,
        "cards": question["images"],
        "depth": round(depth, 4) if hop == "single" else None,
        "version": VERSION,
      },
    }


def _questions(
  split: str, count: int, options: NeedleSetOptions
) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """(hop, question with its images) of a split."""
  singles = count if options.hops == "single" else 0
  if options.hops == "both":
    singles = count - count // 2
  for record in choice_records(singles, options.seed, _SPLITS[split]):
    yield "single", record | dict(images=[record["image"]])
  chains = count - singles
  for record in chain_records(math.ceil(chains / 2), options.seed, _SPLITS[split]):
    for number in (1, 2):
      if chains:
        chains -= 1
        question = record[f"question{number}"]
        answer = record[f"answer{number}"]
        yield "multi", dict(question=question, answer=answer, images=record["images"])


def _write_card(path: pathlib.Path, side: int) -> None:
  from PIL import Image

  if not path.exists():
    with files.write_atomically(path) as file:
      Image.fromarray(draw_card(card_of(path.name), side)).save(file, format="PNG")


def _timeline(
  images: Sequence[str],
  depth: float,
  haystack: Sequence[Stretch],
  options: NeedleSetOptions,
  name: str,
) -> list[dict[str, Any]]:
  """The timeline of a video: haystack and cards.

  A single card is at `depth`; several cards are spread from the beginning to the end. Cards begin
  at multiples of needle_seconds, so that a clip of frames never shows half a card.
  """
  seconds = options.seconds
  if len(images) == 1:
    places = [depth * seconds]
  else:
    places = [seconds * number / (len(images) - 1) for number in range(len(images))]
  unit = options.needle_seconds
  places = [min(seconds, unit * int(place / unit + 1e-9)) for place in places]
  scenes: list[dict[str, Any]] = []
  shown = 0.0
  cursor = _HaystackCursor(haystack, options.seed, name)
  at = 0.0
  for place, image in zip([*places, seconds], [*images, ""], strict=True):
    for stretch in cursor.next_stretches(place - shown):
      length = stretch.end - stretch.start
      times = dict(t0=round(stretch.start, 3), t1=round(stretch.end, 3), at=round(at, 3))
      scenes.append(dict(media=stretch.media, kind="video", **times))
      at += length
    shown = place
    if image:
      scenes.append(dict(media=f"cards/{image}", kind="still", t0=0, t1=unit, at=round(at, 3)))
      at += unit
  return scenes


class _HaystackCursor:
  """Takes successive seconds of haystacks, beginning at a random file and second."""

  def __init__(self, haystack: Sequence[Stretch], seed: int, name: str):
    self._files = draw.shuffled(haystack, seed, "files", name)
    self._number = 0
    first = self._files[0]
    share = draw.unit(seed, "second", name)
    self._second = first.start + int(share * (first.end - first.start))

  def next_stretches(self, seconds: float) -> Iterator[Stretch]:
    """Yields stretches that last `seconds` together.

    When all files were shown, they are shown again.
    """
    while seconds > 1e-6:
      file = self._files[self._number % len(self._files)]
      end = min(file.end, self._second + seconds)
      if end - self._second > 1e-3:
        yield Stretch(file.media, self._second, end)
        seconds -= end - self._second
      self._second = end
      if file.end - end <= 1e-3:
        self._number += 1
        self._second = self._files[self._number % len(self._files)].start
