# SPDX-License-Identifier: Apache-2.0
"""A small corpus of real H.264 videos with questions, on which a tiny model learns to answer.

A video is 2 to 3 minutes of scenes. A scene is one bright shape on one dark background, nearly
still, so most frames repeat each other. Backgrounds differ within a video, and questions name
them: "What shape is on red?". Held-out videos hold scenes of 3 to 5 seconds, which frames at even
times mostly miss. Training asks only about long scenes, which such frames always show: about
virtual videos, timelines that join scenes of many files. Joined anew for every record, they cannot
be learned by heart; a tiny model has to learn to look. A few show nothing but grey, whatever is
asked: so a model that sees nothing guesses, in the words of an answer.

  python -m data_pipelines.synthesis.toy --out DIR [--videos 300] [--held 64] [--seed 0]

writes stage1.json (clips inside one scene), stage2.json (virtual videos), held_out.json,
tokenizer.model and videos/.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
import dataclasses
from fractions import Fraction
import json
import multiprocessing
import os
import pathlib

import av
from av.video.reformatter import VideoReformatter
import numpy as np

from data_pipelines.media.open import GREY
from data_pipelines.sample import IMAGE
from filax import files

COLOURS = dict(
  red=(215, 45, 45),
  green=(45, 160, 65),
  blue=(45, 75, 215),
  yellow=(235, 215, 50),
  purple=(145, 45, 185),
  orange=(240, 135, 35),
  grey=(200, 200, 200),
  cyan=(40, 200, 215),
)
SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar")
CHOICES = dict(shape=len(SHAPES), colour=len(COLOURS) - 1)  # No shape has its background's colour.
DESCRIBE = "Describe the video."
FPS = 2
SIDE = 48  # Pixels.
SLOTS = 24  # Frames that training samples from a video at even times.
# Intervals between such frames that a long scene lasts at least: with 3 it holds 3 of them at any
# phase, hence 2 of some group of 3; what exceeds 3 allows for frames that reach from end to end.
INTERVALS = 3.2
BLANK = 40  # One virtual video in so many is grey.
BLANK_SHOT = "videos/blank.mp4"
VIRTUAL_SECONDS = (90.0, 120.0)  # Of a virtual video: the shortest long scenes fill their share.
SPLITS = dict(train=0, held_out=1, tiny=2, virtual=3)  # Each draws from random numbers of its own.


@dataclasses.dataclass(frozen=True)
class Shot:
  """A scene of a toy video, from frame `first` to before frame `stop`."""

  background: str
  shape: str
  colour: str
  first: int
  stop: int
  short: bool

  @property
  def caption(self) -> str:
    return f"on {self.background} a {self.colour} {self.shape}"


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What a video is made of: how many scenes of each length (least, most), and its seconds."""

  short: tuple[int, int] = (0, 1)
  long: tuple[int, int] = (5, 7)
  seconds: tuple[float, float] = (120, 180)


RECIPES = dict(
  train=Recipe(),
  held_out=Recipe(short=(2, 3), long=(3, 4)),
  tiny=Recipe(short=(0, 0), long=(2, 2), seconds=(4, 6)),
)


def plan(rng: np.random.Generator, recipe: Recipe) -> list[Shot]:
  """Draws the scenes of a video, in order. Answers are drawn evenly: guessing stays at chance."""
  short, long = (int(rng.integers(a, b + 1)) for a, b in (recipe.short, recipe.long))
  total = int(rng.integers(recipe.seconds[0] * FPS, recipe.seconds[1] * FPS + 1))
  is_short = rng.permutation([True] * short + [False] * long)
  length = np.where(is_short, rng.integers(3 * FPS, 5 * FPS + 1, short + long), 0)
  least = int(np.ceil(INTERVALS * total / SLOTS))
  spare = total - length.sum() - long * least
  length[~is_short] = least + (rng.dirichlet([2.0] * long) * spare).astype(int)
  stops = np.cumsum(length)
  shots = []
  for background, frames, stop, brief in zip(
    rng.permutation(list(COLOURS)), length, stops, is_short, strict=False
  ):
    colour = rng.choice([x for x in COLOURS if x != background])
    shots.append(
      Shot(
        str(background),
        str(rng.choice(SHAPES)),
        str(colour),
        int(stop - frames),
        int(stop),
        bool(brief),
      )
    )
  return shots


def film(rng: np.random.Generator, shots: Sequence[Shot], side: int = SIDE) -> np.ndarray:
  """The pictures of a video: uint8 [T side side 3]."""
  return np.concatenate([_film_shot(rng, shot, side) for shot in shots])


def _film_shot(rng, shot: Shot, side: int) -> np.ndarray:
  """A shape that wobbles in place, light that drifts: near-identical frames, their mean halfway."""
  frames = shot.stop - shot.first
  seconds = np.arange(frames)[:, None] / FPS
  radius = rng.uniform(0.28, 0.36) * side
  wobble = np.sin(seconds * rng.uniform(0.5, 2, (1, 2)) + rng.uniform(0, 6, (1, 2)))
  centre = side * (rng.uniform(0.4, 0.6, (1, 2)) + 0.04 * wobble)
  texture = rng.normal(0, 5, (side, side, 1))
  back = 0.4 * np.array(COLOURS[shot.background]) + rng.normal(0, 4, 3) + texture
  front = 0.75 * np.array(COLOURS[shot.colour]) + 64 + rng.normal(0, 6, 3)
  inside = _inside(shot.shape, centre.astype(np.float32), radius, side)[..., None]
  light = np.linspace(-12, 12, frames)[:, None, None, None]
  return np.clip(np.where(inside, front, back) + light, 0, 255).astype(np.uint8)


def _inside(shape: str, centre: np.ndarray, radius: float, side: int) -> np.ndarray:
  """bool [T side side]: the pixels of a shape at each of the T centres (x, y)."""
  grid = np.arange(side, dtype=np.float32) + 0.5
  x, y = grid[None, None] - centre[:, :1, None], grid[None, :, None] - centre[:, 1:, None]
  squares, ax, ay = x * x + y * y, np.abs(x), np.abs(y)
  if shape == "circle":
    return squares < radius**2
  if shape == "ring":
    return (squares < 1.1 * radius**2) & (squares > 0.3 * radius**2)
  if shape == "square":
    return np.maximum(ax, ay) < 0.85 * radius
  if shape == "cross":
    return (np.minimum(ax, ay) < 0.3 * radius) & (np.maximum(ax, ay) < radius)
  if shape == "bar":
    return (ay < 0.35 * radius) & (ax < 1.15 * radius)
  return (y < 0.75 * radius) & (y > -radius) & (ax < (y + radius) * 0.6)  # triangle


def write_video(path: pathlib.Path, frames: np.ndarray, fps: int = FPS) -> None:
  """Writes H.264 at `path`; a half-written file never has that name.

  On one machine the same frames give the same bytes: hence no macroblock tree, for which x264 reads
  memory that it has not written when a picture is this small.
  """
  options = {"crf": "23", "preset": "veryfast", "g": "20", "x264-params": "mbtree=0"}
  converter = VideoReformatter()
  with files.write_atomically(path) as file, av.open(file, "w", format="mp4") as out:
    stream = out.add_stream("libx264", rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
    stream.thread_count = 1
    for i, picture in enumerate(frames):
      frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
      frame = converter.reformat(frame, format="yuv420p")
      frame.pts, frame.time_base = i, Fraction(1, fps)
      out.mux(stream.encode(frame))
    out.mux(stream.encode())


def questions(shots: Sequence[Shot]) -> list[tuple[str, str, str]]:
  """(kind, question, answer) of every scene; kind is what is asked for / the scene's length.

  A space stands before every word that counts, here as in captions. So the pieces of the tokenizer
  are the same, and what stage 1 learns of a word serves in stage 2.
  """
  rows = []
  for shot in shots:
    length, where = "short" if shot.short else "long", f"on {shot.background}"
    rows.append((f"shape/{length}", f"What shape is {where}?", f"a {shot.shape}"))
    rows.append((f"colour/{length}", f"What colour is {where}?", f"it is {shot.colour}"))
  return rows


def conversation(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
  """[(question, answer)] -> LLaVA turns; the first shows the video."""
  rows = []
  for i, (question, answer) in enumerate(turns):
    rows.append({"from": "human", "value": f"{IMAGE}\n{question}" if i == 0 else question})
    rows.append({"from": "gpt", "value": answer})
  return rows


def clip_records(rng, name: str, shots: Sequence[Shot], clips: int = 4) -> list[dict]:
  """Stage 1: `clips` clips of 3 neighbouring frames from each scene, with the scene's caption."""
  records = []
  for shot in shots:
    for first in rng.integers(shot.first, shot.stop - 2, clips):
      # From before the first frame's time to before that of the frame after the third.
      start, end = float(first / FPS), float((first + 3) / FPS)
      records.append(
        dict(
          id=f"{name}@{start:g}",
          video=f"videos/{name}.mp4",
          start=start,
          end=end,
          conversations=conversation([("", shot.caption)]),
        )
      )
  return records


def long_record(rng, name: str, pool: Sequence[tuple[str, Shot]], turns: int = 6) -> dict:
  """Stage 2: a virtual video of long scenes from `pool` (file, scene), no background twice.

  One record in five asks for a caption, the others `turns` questions in any order.
  """
  count = min(int(rng.integers(4, 8)), len({shot.background for _, shot in pool}))
  shots = {}
  while len(shots) < count:
    file, shot = pool[rng.integers(len(pool))]
    shots.setdefault(shot.background, (file, shot))
  shots = list(shots.values())
  least = INTERVALS / SLOTS
  share = least + rng.dirichlet([2.0] * count) * (1 - count * least)
  # No scene is longer than the files' own, and so none falls below its share.
  seconds = rng.uniform(*VIRTUAL_SECONDS) * share
  scenes = []
  for (file, shot), length in zip(shots, seconds, strict=True):
    start, whole = shot.first / FPS, (shot.stop - shot.first) / FPS
    scenes.append(dict(media=file, t0=start, t1=start + min(length, whole)))
  asked = [row[1:] for row in questions([shot for _, shot in shots])]
  talk = [asked[i] for i in rng.permutation(len(asked))[:turns]]
  if rng.uniform() < 0.2:
    talk = [(DESCRIBE, ", ".join(shot.caption for _, shot in shots))]
  return dict(id=name, scenes=scenes, conversations=conversation(talk))


def blank(record: dict) -> dict:
  """The record with grey scenes as long as its own."""
  scenes = [
    dict(media=BLANK_SHOT, t0=0.0, t1=scene["t1"] - scene["t0"]) for scene in record["scenes"]
  ]
  return record | dict(scenes=scenes)


def file_records(rng, name: str, shots: Sequence[Shot], turns: int = 4) -> list[dict]:
  """All questions about the long scenes of one file, in records of at most `turns`."""
  asked = [row[1:] for row in questions([shot for shot in shots if not shot.short])]
  pieces = np.array_split(rng.permutation(len(asked)), -(-len(asked) // turns))
  return [
    dict(
      id=f"{name}-{i}",
      video=f"videos/{name}.mp4",
      conversations=conversation([asked[k] for k in piece]),
    )
    for i, piece in enumerate(pieces)
  ]


def held_out_records(rng, name: str, shots: Sequence[Shot]) -> list[dict]:
  """One question a record: all about short scenes, and at most as many about long ones."""
  rows = questions(shots)
  short = [i for i, row in enumerate(rows) if row[0].endswith("/short")]
  long = [i for i in range(len(rows)) if i not in short]
  chosen = sorted(short + list(rng.permutation(long)[: len(short)]))
  return [
    dict(
      id=f"{name}-{i}",
      video=f"videos/{name}.mp4",
      kind=rows[i][0],
      conversations=conversation([rows[i][1:]]),
    )
    for i in chosen
  ]


def generator(seed: int, split: str, index: int) -> np.random.Generator:
  """The random numbers of one video; those of no two videos are the same."""
  return np.random.default_rng([seed, SPLITS[split], index])


def make_video(folder: pathlib.Path, seed: int, split: str, index: int, side: int) -> list[Shot]:
  """Writes videos/<split>-<index>.mp4 unless it is there, and returns its scenes."""
  rng = generator(seed, split, index)
  shots = plan(rng, RECIPES[split])
  path = folder / "videos" / f"{split}-{index:03d}.mp4"
  if not path.exists():
    write_video(path, film(rng, shots, side))
  return shots


def corpus(
  folder: str | pathlib.Path,
  videos: int = 300,
  held: int = 64,
  seed: int = 0,
  processes: int | None = None,
) -> pathlib.Path:
  """Makes the corpus in `folder`, or finishes it, and returns the folder.

  The same arguments give the same corpus. Raises ValueError if the folder holds another one.
  """
  folder = pathlib.Path(folder)
  recipe = dict(videos=videos, held=held, seed=seed, side=SIDE, fps=FPS, blank=BLANK)
  if _done(folder, recipe):
    return folder
  _prepare(folder)
  _write_json(folder / "corpus.json", recipe | dict(complete=False))
  jobs = [("train", i) for i in range(videos)] + [("held_out", i) for i in range(held)]
  made = _make_videos(folder, seed, jobs, processes or os.cpu_count() or 1)
  frames = int(VIRTUAL_SECONDS[1] * FPS) + 1
  write_video(folder / BLANK_SHOT, np.full((frames, SIDE, SIDE, 3), GREY, np.uint8))
  records = _records(zip(jobs, made, strict=True), seed, 24 * videos)
  for name, rows in records.items():
    _write_json(folder / f"{name}.json", rows)
  _tokenizer(folder, [*records["stage1"], *records["stage2"][:2000]])
  _write_json(folder / "corpus.json", recipe | dict(complete=True))
  return folder


def _prepare(folder: pathlib.Path) -> None:
  """Makes the folders of a corpus and removes what a killed call left half-written."""
  videos = folder / "videos"
  videos.mkdir(parents=True, exist_ok=True)
  files.remove_leftovers(folder)
  files.remove_leftovers(videos)


def _make_videos(folder: pathlib.Path, seed: int, jobs, processes: int) -> list[list[Shot]]:
  """The scenes of every video, each written by one of `processes` processes."""
  columns = zip(*((folder, seed, *job, SIDE) for job in jobs), strict=True)
  if processes == 1:
    return list(map(make_video, *columns))
  # Not forked: whoever calls this may run threads, and those do not survive a fork.
  context = multiprocessing.get_context("spawn")
  with ProcessPoolExecutor(processes, mp_context=context) as pool:
    return list(pool.map(make_video, *columns, chunksize=8))


def _records(made, seed: int, long: int) -> dict[str, list[dict]]:
  """Manifest -> its records."""
  records, pool = dict(stage1=[], stage2=[], held_out=[]), []
  for (split, index), shots in made:
    name, rng = f"{split}-{index:03d}", generator(seed + 1, split, index)
    if split == "held_out":
      records["held_out"] += held_out_records(rng, name, shots)
    else:
      records["stage1"] += clip_records(rng, name, shots)
      pool += [(f"videos/{name}.mp4", shot) for shot in shots if not shot.short]
  rng = generator(seed + 1, "virtual", 0)
  virtual = [long_record(rng, f"virtual-{i:05d}", pool) for i in range(long)]
  records["stage2"] = [row if i % BLANK else blank(row) for i, row in enumerate(virtual)]
  return records


def tiny_corpus(folder: str | pathlib.Path) -> pathlib.Path:
  """6 videos of a few seconds, manifest.json and tokenizer.model: for debugging and tests."""
  folder = pathlib.Path(folder)
  _prepare(folder)
  records = []
  for index in range(6):
    shots = make_video(folder, 0, "tiny", index, SIDE)
    records += file_records(generator(1, "tiny", index), f"tiny-{index:03d}", shots)
  _write_json(folder / "manifest.json", records)
  _tokenizer(folder, records)
  return folder


def _done(folder: pathlib.Path, recipe: dict) -> bool:
  """Whether `folder` holds this very corpus, complete. Raises ValueError if it holds another."""
  path = folder / "corpus.json"
  if not path.exists():
    return False
  found = json.loads(path.read_text())
  complete = found.pop("complete", False)
  if found != recipe:
    raise ValueError(
      f"{folder} holds another corpus ({found}) than the one asked for ({recipe}). Delete the "
      "folder or choose another --out."
    )
  return complete


def _tokenizer(folder: pathlib.Path, records: Sequence[dict]) -> None:
  """Trains tokenizer.model on what the records say."""
  from data_pipelines.text import tokenizers

  roles = {"human": "user", "gpt": "assistant"}  # Their names are single pieces, too.
  texts = (
    f"{roles[turn['from']]}\n{turn['value'].removeprefix(IMAGE).lstrip()}"
    for record in records
    for turn in record["conversations"]
  )
  tokenizers.train_sentencepiece(texts, folder / "tokenizer.model", vocab_size=512)


def _write_json(path: pathlib.Path, value) -> None:
  if isinstance(value, list):  # One record a line: a message can name it.
    text = "[\n" + ",\n".join(json.dumps(row) for row in value) + "\n]\n"
  else:
    text = json.dumps(value, indent=2) + "\n"
  with files.write_atomically(path) as file:
    file.write(text.encode())


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    prog="python -m data_pipelines.synthesis.toy",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--out", required=True, help="folder of the corpus")
  parser.add_argument("--videos", type=int, default=300, help="videos for training")
  parser.add_argument("--held", type=int, default=64, help="held-out videos")
  parser.add_argument("--seed", type=int, default=0, help="another seed draws other videos")
  args = parser.parse_args(argv)
  folder = corpus(args.out, args.videos, args.held, args.seed)
  print(f"{folder}: {args.videos} videos for training, {args.held} held out.")


if __name__ == "__main__":
  main()
