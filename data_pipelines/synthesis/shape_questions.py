# SPDX-License-Identifier: Apache-2.0
"""Manifest records with questions about scenes of shapes, or captions.

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
# A model learns sooner to look up a scene if some videos have only one or two: with 4 to 7 in all
# of them, some seeds still guessed after 2,000 steps.
_VIRTUAL_SCENES = (1, 7)
_DESCRIBED = 0.2  # This share of the virtual videos is described; questions are about the others.
_CLIP_FRAMES = 3


class Question(NamedTuple):
  """A question about a scene; `kind` is "attribute/length of the scene"."""

  kind: str
  question: str
  answer: str


def questions(shots: Sequence[Shot]) -> list[Question]:
  """The questions about every scene.

  Here as in captions, a space precedes every word that matters, so both give the same tokenizer
  pieces, and stage 2 reuses the words learned in stage 1.
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
  """Stage 1 records: `clips` clips of 3 consecutive frames per scene, captioned."""
  records = []
  for shot in shots:
    caption = Question("caption", "", shot.caption)
    for first in rng.integers(shot.first, shot.stop - 2, clips):
      # Starts before the first frame and ends before the fourth.
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
  """A stage 2 record: a virtual video of long scenes from `pool`.

  `pool` is a list of (file, scene); no background appears twice. One record in five asks for a
  caption, the others ask `turns` questions in random order.
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
    # No scene exceeds its length in the file, so every scene keeps its minimum share.
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
  """Draws scenes of a pool without repeating a background."""
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
  """The record with grey scenes of the same lengths."""
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
  """Records of one file's long scenes, at most `turns` questions each."""
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
  """Held-out records with one question each.

  All questions about short scenes, and at most as many about long scenes.
  """
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
