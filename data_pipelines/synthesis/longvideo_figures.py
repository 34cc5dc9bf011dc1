# SPDX-License-Identifier: Apache-2.0
"""Figures of a set of long videos, beside those of FiLA-Video's LongVideo."""

import json
import pathlib
from typing import Any

import numpy as np

from data_pipelines.synthesis.clip_table import ClipTable, ReadClips
from data_pipelines.synthesis.longvideo_plan import PlannedVideos, scene_starts, unseen_scenes
from filax import files

# FiLA-Video, supplementary Table 1, row "Ours".
PAPER = {"captions": 40_000, "words": 4967, "seconds": 666.9, "hours": 8000}
FRAMES = (16, 32, 64, 96, 128, 256)  # Numbers of frames for which missed scenes are counted.
ROWS = (8192, 16384, 32768)  # Lengths of rows for which longer samples are counted.
_TOKENS_OF_A_WORD = 1.33
_WORDS_OF_TIMES = 5  # The words "0 - 41 seconds:" before a scene.
_VISUAL_TOKENS = 32 * 196  # The tokens of a video in FiLA-Video's training.
_COLOUR = "#4878a8"
_MARK = "#c04040"


def measure_videos(
  clips: ReadClips, rows: np.ndarray, videos: PlannedVideos, wanted: int
) -> dict[str, Any]:
  """Statistics of the planned videos, for JSON.

  rows: the row of every clip of the plan in the table. wanted: the number of requested videos.
  """
  seconds, words, scenes = per_video(clips.table, rows, videos)
  uses = np.bincount(videos.clips, minlength=len(rows))
  all_words = words + _WORDS_OF_TIMES * scenes
  tokens = all_words * _TOKENS_OF_A_WORD + _VISUAL_TOKENS  # An estimate.
  ours = {
    "captions": len(videos),
    "words": round(float(words.mean()), 1),
    "seconds": round(float(seconds.mean()), 1),
    "hours": round(float(seconds.sum()) / 3600, 1),
  }
  longer = {str(row): round(float((tokens > row).mean()), 4) for row in ROWS}
  return {
    "table": {"ours": ours, "LongVideo (FiLA-Video)": PAPER},
    "wanted": wanted,
    "failed": videos.failed,
    "bad_records": len(clips.bad),
    "excluded": clips.excluded,
    "seconds": _statistics(seconds),
    "words": _statistics(words),
    "scenes": _statistics(scenes),
    "uses_of_a_clip": {
      "clips": len(rows),
      "mean": round(float(uses.mean()), 3),
      "most": int(uses.max()),
      "unused": int((uses == 0).sum()),
    },
    "without_a_frame": without_a_frame(clips.table, rows, videos),
    "longer_than_a_row": longer,
  }


def per_video(
  table: ClipTable, rows: np.ndarray, videos: PlannedVideos
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(seconds, words, scenes) of every video."""
  used = rows[videos.clips]
  first = videos.first[:-1]
  milliseconds = np.add.reduceat(table.columns["milliseconds"][used], first)
  words = np.add.reduceat(table.columns["words"][used].astype(np.int64), first)
  return milliseconds / 1000, words, np.diff(videos.first)


def without_a_frame(
  table: ClipTable, rows: np.ndarray, videos: PlannedVideos
) -> dict[str, dict[str, float]]:
  """Shares of scenes without a frame, and of videos with some.

  Returns number of uniform frames -> shares.
  """
  lengths = table.columns["milliseconds"][rows[videos.clips]]
  first = videos.first[:-1]
  starts = scene_starts(lengths, videos.first)
  totals = np.repeat(np.add.reduceat(lengths, first), np.diff(videos.first))
  shares = {}
  for frames in FRAMES:
    unseen = unseen_scenes(starts / 1000, lengths / 1000, totals / 1000, frames)
    of_videos = np.add.reduceat(unseen.astype(np.int64), first) > 0
    shares[str(frames)] = {
      "scenes": round(float(unseen.mean()), 4),
      "videos": round(float(of_videos.mean()), 4),
    }
  return shares


def _statistics(values: np.ndarray) -> dict[str, float]:
  low, p5, median, p95, high = np.percentile(values, (0, 5, 50, 95, 100))
  figures = dict(mean=values.mean(), median=median, p5=p5, p95=p95, min=low, max=high)
  return {name: round(float(value), 1) for name, value in figures.items()}


def write_charts(
  folder: pathlib.Path,
  figures: dict[str, Any],
  table: ClipTable,
  rows: np.ndarray,
  videos: PlannedVideos,
) -> None:
  """Writes figures.json and the histograms as PNG."""
  folder.mkdir(exist_ok=True)
  with files.write_atomically(folder / "figures.json") as file:
    file.write(json.dumps(figures, indent=2).encode() + b"\n")
  seconds, words, scenes = per_video(table, rows, videos)
  uses = np.bincount(videos.clips, minlength=len(rows))
  _histogram(folder / "durations.png", seconds / 60, "minutes of a video", PAPER["seconds"] / 60)
  _histogram(folder / "words.png", words, "words of a caption", PAPER["words"])
  _histogram(folder / "scenes.png", scenes, "scenes of a video", whole=True)
  _histogram(folder / "uses.png", uses, "uses of a clip", whole=True)
  _coverage(folder / "without_a_frame.png", figures["without_a_frame"])


def _axes():
  """A new figure and its axes."""
  from matplotlib.figure import Figure  # A second to import.

  figure = Figure(figsize=(6, 4), layout="constrained")
  return figure, figure.add_subplot()


def _save(figure, path: pathlib.Path) -> None:
  """Writes a figure as PNG, without the library's version in it."""
  with files.write_atomically(path) as file:
    figure.savefig(file, dpi=120, format="png", metadata={"Software": None})


def _histogram(
  path: pathlib.Path,
  values: np.ndarray,
  quantity: str,
  published: float | None = None,
  whole: bool = False,
) -> None:
  figure, axes = _axes()
  bins: Any = min(60, max(10, len(values) // 8))
  if whole and values.max() < 100:
    bins = np.arange(values.max() + 2) - 0.5
  axes.hist(values, bins=bins, color=_COLOUR)
  mean = float(values.mean())
  axes.axvline(mean, color=_MARK, linewidth=1.2, label=f"mean {mean:.4g}")
  if published is not None:
    label = f"LongVideo (FiLA-Video) {published:.4g}"
    axes.axvline(published, color="black", linewidth=1.2, linestyle="--", label=label)
  counted = "clips" if quantity.endswith("clip") else "videos"
  axes.set(xlabel=quantity, ylabel=counted, title=f"{len(values)} {counted}")
  if whole and values.max() < 12:
    axes.set_xticks(range(values.max() + 1))
  axes.legend()
  _save(figure, path)


def _coverage(path: pathlib.Path, shares: dict[str, dict[str, float]]) -> None:
  """Draws the shares of `without_a_frame` by the number of frames."""
  figure, axes = _axes()
  names = list(shares)
  positions = np.arange(len(names))
  groups = (
    ("scenes", "scenes without a frame", _COLOUR, -0.2),
    ("videos", "videos with such a scene", "#b0b0b0", 0.2),
  )
  for counted, label, colour, offset in groups:
    percents = [100 * shares[name][counted] for name in names]
    bars = axes.bar(positions + offset, percents, 0.4, color=colour, label=label)
    axes.bar_label(bars, fmt="%.3g", fontsize=8)
  axes.set_xticks(positions, names)
  axes.set(xlabel="uniform frames of a video", ylabel="%", title="What sampling does not see")
  axes.legend()
  _save(figure, path)
