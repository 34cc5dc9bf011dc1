# SPDX-License-Identifier: Apache-2.0
"""Questions about one short scene that is hidden in an ever longer video.

A video consists of five long scenes and one scene of 3 to 5 seconds, all of held-out files of the
toy corpus (synthesis/toy.py). It is virtual: a timeline that joins parts of files. A long scene
lasts longer than in its file, so its part is repeated. The question is about the short scene. Its
`kind` is "<frames>/<depth>": the length of the video in frames, one a second, and the place of the
short scene, from 0 (first) to 1 (last).
"""

from collections.abc import Iterator, Sequence
import json
import pathlib

from numpy.random import Generator

from data_pipelines.synthesis import corpus_files, shape_questions, toy
from data_pipelines.synthesis.shape_questions import FileShot, Record
from data_pipelines.synthesis.shapes import FPS, Shot

MANIFEST = "hidden.json"
FRAMES = (125, 250, 500, 1000)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LONG_SCENES = 5
_PER_CELL = 4  # Questions for a length and a depth.
_VIDEOS_PER_QUESTION = 16  # A corpus with few held-out videos has fewer questions.

TimelinePart = dict[str, str | float]  # media, t0 and t1: seconds t0 to t1 of a file.


def write_hidden_scenes(folder: str | pathlib.Path) -> pathlib.Path:
  """Writes hidden.json into a complete toy corpus; returns its path.

  A file that exists is kept.
  """
  folder = pathlib.Path(folder)
  path = folder / MANIFEST
  if not path.exists():
    recipe = json.loads((folder / "corpus.json").read_text())
    scenes = toy.held_out_scenes(recipe["seed"], recipe["held"])
    rng = toy.generator(recipe["seed"] + 1, "hidden", 0)
    per_cell = min(_PER_CELL, max(1, recipe["held"] // _VIDEOS_PER_QUESTION))
    corpus_files.write_json(path, hidden_records(rng, scenes, per_cell))
  return path


def hidden_records(rng: Generator, scenes: Sequence[FileShot], per_cell: int) -> list[Record]:
  """Records with one question each.

  There are `per_cell` of them for every length and depth.
  """
  short = [(file, shot) for file, shot in scenes if shot.short]
  long = [(file, shot) for file, shot in scenes if not shot.short]
  records = []
  for frames in FRAMES:
    for depth in DEPTHS:
      for number in range(per_cell):
        hidden = short[int(rng.integers(len(short)))]
        shown = _draw_long_scenes(rng, long, hidden)
        record = _hidden_record(shown, hidden, frames, depth, number)
        records.append(record)
  return records


def _draw_long_scenes(rng: Generator, long: Sequence[FileShot], hidden: FileShot) -> list[FileShot]:
  """Long scenes with different backgrounds, none of them the hidden scene's."""
  _, hidden_shot = hidden
  backgrounds = {shot.background for _, shot in long} - {hidden_shot.background}
  count = min(_LONG_SCENES, len(backgrounds))
  chosen: dict[str, FileShot] = {}
  while len(chosen) < count:
    file, shot = long[int(rng.integers(len(long)))]
    if shot.background in backgrounds:
      chosen.setdefault(shot.background, (file, shot))
  return list(chosen.values())


def _hidden_record(
  shown: Sequence[FileShot], hidden: FileShot, frames: int, depth: float, number: int
) -> Record:
  """A question about shape or colour, in turn."""
  file, shot = hidden
  first = shot.first / FPS
  hidden_part: TimelinePart = dict(media=file, t0=first, t1=shot.stop / FPS)
  hidden_seconds = (shot.stop - shot.first) / FPS
  around = frames - hidden_seconds
  before = depth * around
  scenes: list[TimelinePart] = list(_long_parts(shown, around, 0.0, before))
  scenes.append(hidden_part)
  scenes += _long_parts(shown, around, before, around)
  questions = shape_questions.questions([shot])
  question = questions[number % len(questions)]
  return dict(
    id=f"hidden-{frames}-{depth:g}-{number}",
    scenes=scenes,
    kind=f"{frames}/{depth:g}",
    conversations=shape_questions.conversation([question]),
  )


def _long_parts(
  shown: Sequence[FileShot], total: float, begin: float, end: float
) -> Iterator[TimelinePart]:
  """Yields the parts of seconds `begin` to `end` of a video.

  The video shows each scene for an equal time.

  total: seconds of the whole video.
  """
  share = total / len(shown)
  for place, (file, shot) in enumerate(shown):
    first = max(begin, place * share)
    last = min(end, (place + 1) * share)
    yield from _repeated_parts(file, shot, last - first)


def _repeated_parts(file: str, shot: Shot, seconds: float) -> Iterator[TimelinePart]:
  """Yields parts of one scene until they last `seconds`."""
  start = shot.first / FPS
  length = (shot.stop - shot.first) / FPS
  shortest = 1 / FPS  # A part without a frame cannot be shown.
  while seconds >= shortest:
    shown = min(length, seconds)
    yield dict(media=file, t0=start, t1=start + shown)
    seconds -= shown
