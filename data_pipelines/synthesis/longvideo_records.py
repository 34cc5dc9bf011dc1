# SPDX-License-Identifier: Apache-2.0
"""Records of long videos.

A timeline of clips, and a caption with times.
"""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from data_pipelines.synthesis import caption_templates, draw
from data_pipelines.synthesis.caption_reader import Clip, spooled_clip
from data_pipelines.synthesis.clip_table import ClipTable
from data_pipelines.synthesis.longvideo_plan import PlannedVideos
from data_pipelines.synthesis.shards import json_line

KIND = "dense_caption"
# Where contents begin in a line; inside of texts, quotes are escaped.
_SCENES = b',"scenes":['
_ANSWER = b'{"from":"gpt","value":"'
_CLIPS = b'"made":{"clips":['
_SCENE = b'{"media":%b,"t0":%b,"t1":%b,"at":%b}'
_NEWLINE = rb"\n"  # In JSON.
CHUNK = 50  # Videos that a process writes at a time.


class PlacedScene(NamedTuple):
  """A scene of a long video, before its text is read."""

  milliseconds: int
  spool: int
  start: int  # Bytes.
  size: int


_SCENE_COLUMNS = ("milliseconds", "file", "start", "size")  # Columns of a PlacedScene.


class PlacedVideo(NamedTuple):
  """A long video, before its texts are read."""

  id: str
  target: float
  pass_number: int
  scenes: tuple[PlacedScene, ...]


@dataclasses.dataclass
class VideoWriter:
  """Writes chunks of videos as lines. Picklable."""

  spools: Sequence[str]
  captions: str  # One of caption_templates.CAPTIONS.
  seed: int

  def __call__(self, videos: Sequence[PlacedVideo]) -> tuple[bytes, int]:
    lines = []
    for video in videos:
      clips = []
      for scene in video.scenes:
        line = os.pread(self._spool(scene.spool).fileno(), scene.size, scene.start)
        clips.append(spooled_clip(line))
      lines.append(video_line(video, clips, self.captions, self.seed))
    return b"".join(lines), len(lines)

  def _spool(self, number: int) -> BinaryIO:
    """An open spool."""
    files: dict[int, BinaryIO] = self.__dict__.setdefault("_files", {})
    if number not in files:
      files[number] = open(self.spools[number], "rb")
    return files[number]

  def __getstate__(self) -> dict[str, Any]:
    return dict(spools=self.spools, captions=self.captions, seed=self.seed)


def video_line(video: PlacedVideo, clips: Sequence[Clip], captions: str, seed: int) -> bytes:
  """The record of a long video as a line of a manifest.

  Neighbouring lines of a caption share the second between them, and the last ends with the video.
  """
  scenes = []
  lines = []
  at = 0
  for scene, clip in zip(video.scenes, clips, strict=True):
    end = at + scene.milliseconds
    t1 = round(float(clip.start) + scene.milliseconds / 1000, 3)
    scenes.append(_SCENE % (clip.media, clip.start, repr(t1).encode(), repr(at / 1000).encode()))
    times = caption_templates.scene_line(captions, _second(at), _second(end), "")
    lines.append(times.encode() + clip.caption)
    at = end
  questions = caption_templates.TIMED_QUESTIONS
  if captions == "plain":
    questions = caption_templates.PLAIN_QUESTIONS
  question = draw.choose(questions, seed, "question", video.id)
  record = {
    "id": video.id,
    "kind": KIND,
    "scenes": [],
    "conversations": [
      {"from": "human", "value": f"<image>\n{question}"},
      {"from": "gpt", "value": ""},
    ],
    "made": {"clips": [], "target": round(video.target, 1), "pass": video.pass_number},
  }
  line = json_line(record)
  # The largest lists and the answer are JSON already.
  for place, content in (
    (_SCENES, b",".join(scenes)),
    (_ANSWER, _NEWLINE.join(lines)),
    (_CLIPS, b",".join([clip.id for clip in clips])),
  ):
    before, opening, after = line.rpartition(place)
    line = before + opening + content + after
  return line


def _second(milliseconds: int) -> int:
  """The nearest second; half a second rounds up."""
  return (milliseconds + 500) // 1000


def video_id(split_prefix: str, number: int) -> str:
  """The id of a long video: "longvideo-000123"."""
  return f"longvideo-{split_prefix}{number:06d}"


class PlacedChunks(Sequence[list[PlacedVideo]]):
  """Planned videos in chunks, made when they are asked for.

  rows: the rows of the table that the plan's clips are.
  """

  def __init__(
    self,
    table: ClipTable,
    plan: PlannedVideos,
    rows: np.ndarray,
    prefix: str,
    videos: range,
  ):
    self._table = table
    self._plan = plan
    self._rows = rows
    self._prefix = prefix
    self._videos = videos

  def __len__(self) -> int:
    return -(-len(self._videos) // CHUNK)

  def __getitem__(self, chunk):
    if not 0 <= chunk < len(self):
      raise IndexError(chunk)
    placed = []
    columns = self._table.columns
    for number in self._videos[chunk * CHUNK : (chunk + 1) * CHUNK]:
      rows = self._rows[self._plan.scenes(number)]
      fields = [columns[name][rows].tolist() for name in _SCENE_COLUMNS]
      scenes = map(PlacedScene, *fields)
      placed.append(
        PlacedVideo(
          id=video_id(self._prefix, number),
          target=float(self._plan.targets[number]),
          pass_number=int(self._plan.passes[number]),
          scenes=tuple(scenes),
        )
      )
    return placed
