# SPDX-License-Identifier: Apache-2.0
"""Records of a manifest that ask about scenes of shapes, or describe them.

Questions name a scene by its background: "What shape is on red?".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.sample import IMAGE
from data_pipelines.synthesis.shapes import FPS, INTERVALS, SLOTS, Shot

Record = dict[str, Any]
Question = tuple[str, str, str]  # Kind, question, answer.
Turns = Sequence[tuple[str, str]]  # Questions and answers.

DESCRIBE = "Describe the video."
BLANK_SHOT = "videos/blank.mp4"
VIRTUAL_SECONDS = (90.0, 120.0)  # Of a virtual video: the shortest long scenes fill their share.
_VIRTUAL_SCENES = (4, 7)
_DESCRIBED = 0.2  # Of virtual videos; questions are asked about the others.
_CLIP_FRAMES = 3


def questions(shots: Sequence[Shot]) -> list[Question]:
  """(kind, question, answer) of every scene; kind is what is asked for / the scene's length.

  A space stands before every word that counts, here as in captions. So the pieces of the tokenizer
  are the same, and what stage 1 learns of a word serves in stage 2.
  """
  rows = []
  for shot in shots:
    length = "short" if shot.short else "long"
    place = f"on {shot.background}"
    rows.append((f"shape/{length}", f"What shape is {place}?", f"a {shot.shape}"))
    rows.append((f"colour/{length}", f"What colour is {place}?", f"it is {shot.colour}"))
  return rows


def _as_turns(rows: Sequence[Question]) -> list[tuple[str, str]]:
  return [(question, answer) for _, question, answer in rows]


def conversation(turns: Turns) -> list[dict[str, str]]:
  """[(question, answer)] -> LLaVA turns; the first shows the video."""
  conversations = []
  for number, (question, answer) in enumerate(turns):
    if number == 0:
      question = f"{IMAGE}\n{question}"
    conversations.append({"from": "human", "value": question})
    conversations.append({"from": "gpt", "value": answer})
  return conversations


def clip_records(
  rng: np.random.Generator, name: str, shots: Sequence[Shot], clips: int = 4
) -> list[Record]:
  """Stage 1: `clips` clips of 3 neighbouring frames from each scene, with the scene's caption."""
  records = []
  for shot in shots:
    for first in rng.integers(shot.first, shot.stop - 2, clips):
      # From before the first frame's time to before that of the frame after the third.
      start = float(first / FPS)
      end = float((first + _CLIP_FRAMES) / FPS)
      record = dict(
        id=f"{name}@{start:g}",
        video=_video_path(name),
        start=start,
        end=end,
        conversations=conversation([("", shot.caption)]),
      )
      records.append(record)
  return records


def virtual_record(
  rng: np.random.Generator, name: str, pool: Sequence[tuple[str, Shot]], turns: int = 6
) -> Record:
  """Stage 2: a virtual video of long scenes from `pool` (file, scene), no background twice.

  One record in five asks for a caption, the others `turns` questions in any order.
  """
  chosen = _draw_scenes(rng, pool)
  count = len(chosen)
  least = INTERVALS / SLOTS
  share = least + rng.dirichlet([2.0] * count) * (1 - count * least)
  seconds = rng.uniform(*VIRTUAL_SECONDS) * share
  scenes = []
  for (file, shot), length in zip(chosen, seconds, strict=True):
    start = shot.first / FPS
    # No scene is longer than the files' own, and so none falls below its share.
    length = min(length, (shot.stop - shot.first) / FPS)
    scenes.append(dict(media=file, t0=start, t1=start + length))
  shots = [shot for _, shot in chosen]
  pairs = _as_turns(questions(shots))
  talk = [pairs[number] for number in rng.permutation(len(pairs))[:turns]]
  if rng.uniform() < _DESCRIBED:
    talk = [(DESCRIBE, ", ".join(shot.caption for shot in shots))]
  return dict(id=name, scenes=scenes, conversations=conversation(talk))


def _draw_scenes(
  rng: np.random.Generator, pool: Sequence[tuple[str, Shot]]
) -> list[tuple[str, Shot]]:
  """Some scenes (file, scene) of a pool, no background twice."""
  fewest, most = _VIRTUAL_SCENES
  backgrounds = {shot.background for _, shot in pool}
  count = min(int(rng.integers(fewest, most + 1)), len(backgrounds))
  chosen = {}
  while len(chosen) < count:
    file, shot = pool[rng.integers(len(pool))]
    chosen.setdefault(shot.background, (file, shot))
  return list(chosen.values())


def blank_record(record: Record) -> Record:
  """The record with grey scenes as long as its own."""
  scenes = []
  for scene in record["scenes"]:
    scenes.append(dict(media=BLANK_SHOT, t0=0.0, t1=scene["t1"] - scene["t0"]))
  return record | dict(scenes=scenes)


def file_records(
  rng: np.random.Generator, name: str, shots: Sequence[Shot], turns: int = 4
) -> list[Record]:
  """All questions about the long scenes of one file, in records of at most `turns`."""
  long = [shot for shot in shots if not shot.short]
  pairs = _as_turns(questions(long))
  order = rng.permutation(len(pairs))
  records = []
  for number, piece in enumerate(np.array_split(order, -(-len(pairs) // turns))):
    record = dict(
      id=f"{name}-{number}",
      video=_video_path(name),
      conversations=conversation([pairs[k] for k in piece]),
    )
    records.append(record)
  return records


def held_out_records(rng: np.random.Generator, name: str, shots: Sequence[Shot]) -> list[Record]:
  """One question a record: all about short scenes, and at most as many about long ones."""
  rows = questions(shots)
  short = []
  long = []
  for number, (kind, _, _) in enumerate(rows):
    if kind.endswith("/short"):
      short.append(number)
    else:
      long.append(number)
  chosen = short + list(rng.permutation(long)[: len(short)])
  records = []
  for number in sorted(chosen):
    kind, question, answer = rows[number]
    record = dict(
      id=f"{name}-{number}",
      video=_video_path(name),
      kind=kind,
      conversations=conversation([(question, answer)]),
    )
    records.append(record)
  return records


def _video_path(name: str) -> str:
  return f"videos/{name}.mp4"
