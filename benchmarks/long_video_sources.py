# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of reading sources of long videos, on rows of the shape of the largest ones.

  python -m benchmarks.long_video_sources [--megabytes 100]

Prints, for a csv like Panda-70M's and a pickle like Ego4D-HCap's clips, megabytes a minute and
core, and the memory that reading adds to that of the process.
"""

import argparse
from collections.abc import Iterator
import csv
import json
import os
import pathlib
import pickle
import random
import resource
import tempfile
import time

import psutil

from data_pipelines.synthesis.sources.plain_pickle import pickled_elements
from data_pipelines.synthesis.sources.registry import find_source
from data_pipelines.synthesis.sources.track_report import TrackReport

WORDS = (
  "a man's red dog is running over the old bridge while two people talk in front of it".split()
)
COLUMNS = ["videoID", "url", "timestamp", "caption", "matching_score"]
CLIPS = 19  # A video of Panda-70M, on average.


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--megabytes", type=int, default=100)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    table = pathlib.Path(folder) / "panda70m_training_full.csv"
    write_table(table, args.megabytes * 1_000_000)
    print(json.dumps(dict(file="csv", **measured(table, tracks_of(table)))))
    clips = pathlib.Path(folder) / "clips_train.pkl"
    write_pickle(clips, args.megabytes * 1_000_000)
    print(json.dumps(dict(file="pickle", **measured(clips, pickled_elements(clips)))))


def tracks_of(table: pathlib.Path) -> Iterator:
  """The tracks of a csv."""
  return find_source("panda70m").read_tracks([str(table)], "", TrackReport())


def measured(path: pathlib.Path, items: Iterator) -> dict:
  """Speed and added memory of reading all items."""
  process = psutil.Process()
  before = process.memory_info().rss
  peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  start = time.process_time()
  count = sum(1 for _ in items)
  seconds = time.process_time() - start
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  size = os.path.getsize(path) / 1e6
  return dict(
    megabytes=round(size),
    items=count,
    seconds=round(seconds, 1),
    megabytes_a_minute=round(size / seconds * 60),
    added_megabytes=round(max(peak * 1024 - max(before, peak_before * 1024), 0) / 1e6),
  )


def write_table(path: pathlib.Path, size: int) -> None:
  """A csv of rows like Panda-70M's."""
  draw = random.Random(0)
  with open(path, "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(COLUMNS)
    number = 0
    while file.tell() < size:
      table.writerow(table_row(number, draw))
      number += 1


def table_row(number: int, draw: random.Random) -> list[str]:
  """A video with its clips."""
  video = f"{number:011d}"
  spans = []
  captions = []
  scores = []
  second = draw.uniform(0, 20)
  for _ in range(draw.randint(1, 2 * CLIPS)):
    length = draw.uniform(2.5, 15)
    spans.append([clock_text(second), clock_text(second + length)])
    captions.append(" ".join(draw.choices(WORDS, k=13)) + ".")
    scores.append(draw.random())
    second += length * 1.25
    if draw.random() < 0.15:
      second += 20
  return [video, f"https://www.youtube.com/watch?v={video}", str(spans), str(captions), str(scores)]


def clock_text(second: float) -> str:
  """H:MM:SS.fff."""
  return f"{int(second // 3600)}:{int(second // 60 % 60):02d}:{second % 60:06.3f}"


def write_pickle(path: pathlib.Path, size: int) -> None:
  """A list of clips like Ego4D-HCap's."""
  draw = random.Random(0)
  clips = []
  for number in range(size // 60):
    video = f"0b4cacb1-970f-4ef0-85da-{number // 600:012d}"
    text = "C " + " ".join(draw.choices(WORDS, k=7))
    clips.append((video, draw.uniform(0, 600), draw.uniform(0, 600), text))
  with open(path, "wb") as file:
    pickle.dump(clips, file, 4)


if __name__ == "__main__":
  main()
