# SPDX-License-Identifier: Apache-2.0
"""A contact sheet of a world: the scenes of some held-out videos, with their questions."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
import io
import json
import pathlib
import textwrap

import numpy as np

from data_pipelines.media.frames import read_frames
from data_pipelines.sample import IMAGE
from data_pipelines.synthesis.corpus_files import Record
from data_pipelines.synthesis.world.scenes import WorldScene
from data_pipelines.synthesis.world.world_files import WORLD, read_truth
from filax import files

SHEET = "sheet.png"
_VIDEOS = 4
_PICTURES = 3  # Neighbouring frames of a scene: they show whether a shape moves.
_LINES = 8  # Lines of questions below a video.
_LINE_WIDTH = 150  # Characters.


def write_sheet(folder: str | pathlib.Path) -> pathlib.Path:
  """Writes sheet.png: a strip of scenes for each video."""
  folder = pathlib.Path(folder)
  truth = read_truth(folder)
  questions = _questions_by_video(folder)
  side = json.loads((folder / WORLD).read_bytes())["recipe"]["side"]
  path = folder / SHEET
  content = _draw(folder, dict(list(truth.items())[:_VIDEOS]), questions, side)
  with files.write_atomically(path) as file:
    file.write(content)
  return path


def _questions_by_video(folder: pathlib.Path) -> Mapping[str, list[Record]]:
  by_video: dict[str, list[Record]] = defaultdict(list)
  for record in json.loads((folder / "held_out.json").read_bytes()):
    by_video[record["video"]].append(record)
  return by_video


def _draw(
  folder: pathlib.Path,
  truth: Mapping[str, Sequence[WorldScene]],
  questions: Mapping[str, Sequence[Record]],
  side: int,
) -> bytes:
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  columns = max(len(scenes) for scenes in truth.values())
  figure = Figure((2.2 * columns, 3.2 * len(truth)), layout="constrained")
  FigureCanvasAgg(figure)
  strips = figure.subfigures(len(truth), 1, squeeze=False)[:, 0]
  for strip, (name, scenes) in zip(strips, truth.items(), strict=True):
    panels = strip.subplots(1, columns, squeeze=False)[0]
    strip.suptitle(f"{name}, {scenes[-1].stop:.0f} s", fontsize=9)
    strip.supxlabel(_question_text(questions.get(name, ())), fontsize=6)
    for panel in panels:
      panel.set_axis_off()
    for panel, scene in zip(panels, scenes, strict=False):
      panel.imshow(_scene_pictures(folder / name, scene, side))
      panel.set_title(f"{scene.start:.0f}-{scene.stop:.0f} s\n{scene.caption}", fontsize=5.5)
  out = io.BytesIO()
  figure.savefig(out, format="png", dpi=130)
  return out.getvalue()


def _scene_pictures(path: pathlib.Path, scene: WorldScene, side: int) -> np.ndarray:
  """Neighbouring frames from the middle of a scene, side by side."""
  middle = (scene.start + scene.stop) / 2
  times = [middle + 0.5 * (number - _PICTURES // 2) for number in range(_PICTURES)]
  inside = np.clip(times, scene.start, scene.stop - 0.01)
  frames, _ = read_frames(str(path), inside, side)
  return np.concatenate(list(frames), axis=1)


def _question_text(records: Sequence[Record]) -> str:
  parts = []
  for record in records:
    question, answer = (turn["value"] for turn in record["conversations"])
    parts.append(f"[{record['kind']}] {question.removeprefix(IMAGE).strip()} {answer}")
  lines = textwrap.wrap("   ".join(parts), _LINE_WIDTH)
  return "\n".join(lines[:_LINES])
