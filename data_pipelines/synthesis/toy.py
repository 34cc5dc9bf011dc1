# SPDX-License-Identifier: Apache-2.0
"""A small corpus of H.264 videos and questions for a tiny model.

A video is 2 to 3 minutes of scenes. A scene is one bright shape on one dark background, nearly
still, so most frames repeat each other. Backgrounds differ within a video, and questions name
them: "What shape is on red?". Held-out videos include scenes of 3 to 5 seconds, which uniformly
sampled frames mostly miss. Training asks only about long scenes, which uniform frames always show.
Its videos are virtual: timelines that join scenes of many files, newly drawn for every record, so
that a tiny model cannot memorise them and has to look. A few are entirely grey, with the usual
answers: a model without visual input then guesses a valid answer.

  python -m data_pipelines.synthesis.toy --out DIR [--videos 300] [--held 64] [--seed 0]

writes stage1.json (clips inside one scene), stage2.json (virtual videos), held_out.json,
tokenizer.model and videos/.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib

import numpy as np

from data_pipelines.media.open import GREY
from data_pipelines.synthesis import corpus_files, shape_questions
from data_pipelines.synthesis.shape_questions import BLANK_SHOT, VIRTUAL_SECONDS, FileShot, Record
from data_pipelines.synthesis.shapes import FPS, RECIPES, SIDE, Shot, draw_shots, film
from filax import files, host_limits

BLANK = 40  # One of this many virtual videos is grey.
SPLITS = dict(  # Each split has its own random stream.
  train=0,
  held_out=1,
  tiny=2,
  virtual=3,
  hidden=4,
)
_VIRTUAL_PER_VIDEO = 24
_TINY_VIDEOS = 6
# Records of stage 2 that train the tokenizer: enough, because words repeat.
_TOKENIZER_RECORDS = 2000

Job = tuple[str, int]  # A split, and the index of a video in it.


def write_video(
  path: pathlib.Path,
  frames: np.ndarray,
  fps: int = FPS,
) -> None:
  """Writes frames uint8 [T h w 3] as an H.264 file, atomically."""
  corpus_files.write_small_video(path, frames, fps)


def generator(seed: int, split: str, index: int) -> np.random.Generator:
  """The random generator of one video, distinct for every video."""
  return np.random.default_rng([seed, SPLITS[split], index])


def make_video(
  folder: pathlib.Path,
  seed: int,
  split: str,
  index: int,
  side: int,
) -> list[Shot]:
  """Writes videos/<split>-<index>.mp4 unless it exists; returns its scenes."""
  rng = generator(seed, split, index)
  shots = draw_shots(rng, RECIPES[split])
  path = folder / "videos" / f"{_video_name(split, index)}.mp4"
  if not path.exists():
    write_video(path, film(rng, shots, side))
  return shots


def held_out_scenes(seed: int, held: int) -> list[FileShot]:
  """Every scene of a corpus' held-out videos, with its file."""
  scenes = []
  for index in range(held):
    rng = generator(seed, "held_out", index)
    file = f"videos/{_video_name('held_out', index)}.mp4"
    scenes += [(file, shot) for shot in draw_shots(rng, RECIPES["held_out"])]
  return scenes


def _video_name(split: str, index: int) -> str:
  return f"{split}-{index:03d}"


def corpus(
  folder: str | pathlib.Path,
  videos: int = 300,
  held: int = 64,
  seed: int = 0,
  processes: int | None = None,
) -> pathlib.Path:
  """Makes or completes the corpus in `folder`; returns the folder.

  The same arguments give the same corpus. Raises ValueError if the folder holds another corpus.
  """
  folder = pathlib.Path(folder)
  recipe = dict(
    videos=videos,
    held=held,
    seed=seed,
    side=SIDE,
    fps=FPS,
    blank=BLANK,
  )
  if _is_complete(folder, recipe):
    return folder
  _prepare(folder)
  corpus_files.write_json(folder / "corpus.json", recipe | dict(complete=False))
  jobs = [("train", index) for index in range(videos)]
  jobs += [("held_out", index) for index in range(held)]
  processes = processes or host_limits.usable_cpus()
  shots = _make_videos(folder, seed, jobs, processes)
  write_video(folder / BLANK_SHOT, _blank_frames())
  virtual = _VIRTUAL_PER_VIDEO * videos
  manifests = _manifests(jobs, shots, seed, virtual)
  for name, records in manifests.items():
    corpus_files.write_json(folder / f"{name}.json", records)
  virtual_records = manifests["stage2"][:_TOKENIZER_RECORDS]
  corpus_files.train_tokenizer(folder, [*manifests["stage1"], *virtual_records])
  corpus_files.write_json(folder / "corpus.json", recipe | dict(complete=True))
  return folder


def _blank_frames() -> np.ndarray:
  """Grey frames, longer than any virtual video."""
  _, longest = VIRTUAL_SECONDS
  frames = int(longest * FPS) + 1
  return np.full((frames, SIDE, SIDE, 3), GREY, np.uint8)


def tiny_corpus(folder: str | pathlib.Path) -> pathlib.Path:
  """Makes a corpus of 6 short videos for debugging and tests.

  The videos last a few seconds each; manifest.json and tokenizer.model lie beside them.
  """
  folder = pathlib.Path(folder)
  _prepare(folder)
  records = []
  for index in range(_TINY_VIDEOS):
    shots = make_video(folder, 0, "tiny", index, SIDE)
    rng = generator(1, "tiny", index)
    name = _video_name("tiny", index)
    records += shape_questions.file_records(rng, name, shots)
  corpus_files.write_json(folder / "manifest.json", records)
  corpus_files.train_tokenizer(folder, records)
  return folder


def _prepare(folder: pathlib.Path) -> None:
  """Makes the folders of a corpus and removes partly written files."""
  videos = folder / "videos"
  videos.mkdir(parents=True, exist_ok=True)
  files.remove_leftovers(folder)
  files.remove_leftovers(videos)


def _is_complete(folder: pathlib.Path, recipe: dict[str, int]) -> bool:
  """Whether `folder` holds this corpus, complete.

  Raises ValueError if it holds another corpus.
  """
  path = folder / "corpus.json"
  if not path.exists():
    return False
  present = json.loads(path.read_text())
  complete = present.pop("complete", False)
  if present != recipe:
    raise ValueError(
      f"{folder} holds another corpus ({present}) than the one asked for ({recipe}). Delete the "
      "folder or choose another --out."
    )
  return complete


def _make_videos(
  folder: pathlib.Path,
  seed: int,
  jobs: Sequence[Job],
  processes: int,
) -> list[list[Shot]]:
  """Writes the videos in `processes` processes; returns the scenes of each."""
  arguments = [(folder, seed, split, index, SIDE) for split, index in jobs]
  return corpus_files.in_processes(make_video, arguments, processes)


def _manifests(
  jobs: Sequence[Job],
  shots_of_jobs: Sequence[Sequence[Shot]],
  seed: int,
  virtual: int,
) -> dict[str, list[Record]]:
  """The records of each manifest, `virtual` of them virtual videos."""
  stage1 = []
  held_out = []
  pool = []  # Long scenes for training: (file, scene).
  for (split, index), shots in zip(jobs, shots_of_jobs, strict=True):
    name = _video_name(split, index)
    rng = generator(seed + 1, split, index)
    if split == "held_out":
      held_out += shape_questions.held_out_records(rng, name, shots)
      continue
    stage1 += shape_questions.clip_records(rng, name, shots)
    file = f"videos/{name}.mp4"
    pool += [(file, shot) for shot in shots if not shot.short]
  rng = generator(seed + 1, "virtual", 0)
  stage2 = []
  for number in range(virtual):
    name = f"virtual-{number:05d}"
    record = shape_questions.virtual_record(rng, name, pool)
    if number % BLANK == 0:
      record = shape_questions.blank_record(record)
    stage2.append(record)
  return dict(stage1=stage1, stage2=stage2, held_out=held_out)


def main(argv: Sequence[str] | None = None) -> None:
  """Makes a corpus from the command line."""
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
