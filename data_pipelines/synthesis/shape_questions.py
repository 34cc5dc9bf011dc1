# SPDX-License-Identifier: Apache-2.0
"""Records of a manifest that ask about scenes of shapes, or describe them.

Questions name a scene by its background: "What shape is on red?".
"""

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from data_pipelines.sample import IMAGE
from data_pipelines.synthesis.shapes import FPS, INTERVALS, SLOTS, Shot

Record = dict[str, Any]
FileShot = tuple[str, Shot]  # A file and a scene of it.

DESCRIBE = "Describe the video."
BLANK_SHOT = "videos/blank.mp4"
VIRTUAL_SECONDS = (90.0, 120.0)  # Of a virtual video: the shortest long scenes fill their share.
_VIRTUAL_SCENES = (4, 7)
_DESCRIBED = 0.2  # Of virtual videos; questions are asked about the others.
_CLIP_FRAMES = 3


class Question(NamedTuple):
  """A question about a scene; `kind` is what is asked for / the scene's length."""

  kind: str
  question: str
  answer: str


def questions(shots: Sequence[Shot]) -> list[Question]:
  """The questions about every scene.

  A space stands before every word that counts, here as in captions. So the pieces of the tokenizer
  are the same, and what stage 1 learns of a word serves in stage 2.
  """
  rows = []
  for shot in shots:
    length = "short" if shot.short else "long"
    place = f"on {shot.background}"
    shape = Question(f"shape/{length}", f"What shape is {place}?", f"a {shot.shape}")
    colour = Question(f"colour/{length}", f"What colour is {place}?", f"it is {shot.colour}")
    rows += [shape, colour]
  return rows


def conversation(rows: Sequence[Question]) -> list[dict[str, str]]:
  """LLaVA turns of questions and answers; the first shows the video."""
  turns = []
  for number, question in enumerate(rows):
    text = question.question
    if number == 0:
      text = f"{IMAGE}\n{text}"
    turns.append({"from": "human", "value": text})
    turns.append({"from": "gpt", "value": question.answer})
  return turns


def clip_records(
  rng: Generator,
  name: str,
  shots: Sequence[Shot],
  clips: int = 4,
) -> list[Record]:
  """Stage 1: `clips` clips of 3 neighbouring frames from each scene, with the scene's caption."""
  records = []
  for shot in shots:
    caption = Question("caption", "", shot.caption)
    for first in rng.integers(shot.first, shot.stop - 2, clips):
      # From before the first frame's time to before that of the frame after the third.
      start = float(first / FPS)
      end = float((first + _CLIP_FRAMES) / FPS)
      record = dict(
        id=f"{name}@{start:g}",
        video=_video_path(name),
        start=start,
        end=end,
        conversations=conversation([caption]),
      )
      records.append(record)
  return records


def virtual_record(
  rng: Generator,
  name: str,
  pool: Sequence[FileShot],
  turns: int = 6,
) -> Record:
  """Stage 2: a virtual video of long scenes from `pool` (file, scene), no background twice.

  One record in five asks for a caption, the others `turns` questions in any order.
  """
  chosen = _draw_scenes(rng, pool)
  count = len(chosen)
  smallest_share = INTERVALS / SLOTS
  spare = 1 - count * smallest_share
  share = smallest_share + rng.dirichlet([2.0] * count) * spare
  seconds = rng.uniform(*VIRTUAL_SECONDS) * share
  scenes = []
  for (file, shot), length in zip(chosen, seconds, strict=True):
    start = shot.first / FPS
    # No scene is longer than the files' own, and so none falls below its share.
    length_in_file = (shot.stop - shot.first) / FPS
    length = min(length, length_in_file)
    scenes.append(dict(media=file, t0=start, t1=start + length))
  shots = [shot for _, shot in chosen]
  rows = questions(shots)
  order = rng.permutation(len(rows))
  chosen_rows = [rows[number] for number in order[:turns]]
  if rng.uniform() < _DESCRIBED:
    captions = ", ".join(shot.caption for shot in shots)
    chosen_rows = [Question("caption", DESCRIBE, captions)]
  return dict(id=name, scenes=scenes, conversations=conversation(chosen_rows))


def _draw_scenes(rng: Generator, pool: Sequence[FileShot]) -> list[FileShot]:
  """Some scenes of a pool, no background twice."""
  fewest, largest = _VIRTUAL_SCENES
  backgrounds = {shot.background for _, shot in pool}
  drawn = int(rng.integers(fewest, largest + 1))
  count = min(drawn, len(backgrounds))
  chosen: dict[str, FileShot] = {}
  while len(chosen) < count:
    number = int(rng.integers(len(pool)))
    file, shot = pool[number]
    chosen.setdefault(shot.background, (file, shot))
  return list(chosen.values())


def blank_record(record: Record) -> Record:
  """The record with grey scenes as long as its own."""
  scenes = []
  for scene in record["scenes"]:
    seconds = scene["t1"] - scene["t0"]
    scenes.append(dict(media=BLANK_SHOT, t0=0.0, t1=seconds))
  return record | dict(scenes=scenes)


def file_records(
  rng: Generator,
  name: str,
  shots: Sequence[Shot],
  turns: int = 4,
) -> list[Record]:
  """All questions about the long scenes of one file, in records of at most `turns`."""
  long = [shot for shot in shots if not shot.short]
  rows = questions(long)
  order = rng.permutation(len(rows))
  pieces = np.array_split(order, math.ceil(len(rows) / turns))
  records = []
  for number, piece in enumerate(pieces):
    chosen_rows = [rows[k] for k in piece]
    record = dict(
      id=f"{name}-{number}",
      video=_video_path(name),
      conversations=conversation(chosen_rows),
    )
    records.append(record)
  return records


def held_out_records(
  rng: Generator,
  name: str,
  shots: Sequence[Shot],
) -> list[Record]:
  """One question a record: all about short scenes, and at most as many about long ones."""
  rows = questions(shots)
  short = []
  long = []
  for number, question in enumerate(rows):
    if question.kind.endswith("/short"):
      short.append(number)
    else:
      long.append(number)
  as_many = rng.permutation(long)[: len(short)]
  records = []
  for number in sorted([*short, *as_many]):
    question = rows[number]
    record = dict(
      id=f"{name}-{number}",
      video=_video_path(name),
      kind=question.kind,
      conversations=conversation([question]),
    )
    records.append(record)
  return records


def _video_path(name: str) -> str:
  return f"videos/{name}.mp4"
