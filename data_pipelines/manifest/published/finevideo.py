# SPDX-License-Identifier: Apache-2.0
"""FineVideo: a video with its scenes, and what happens in them.

  mp4   the bytes of the video
  json  {"content_metadata": {"scenes": [{"title": "…", "activities": [{"description": "A man …"}],
         "timestamps": {"start_timestamp": "00:00:00.000", "end_timestamp": "00:00:28.779"}}]}}

A row of its Parquet files is a record. A scene's caption is the descriptions of its activities. In
a file of the json alone, the video is `original_video_filename`.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.clock_text import clock_seconds
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.published.shape import Caption, CaptionShape
from data_pipelines.manifest.report import RecordError

_ENDS = (".", "!", "?")


def finevideo_rows(record: Mapping[str, Any]) -> list[Caption | RecordError]:
  """The captions of the scenes of a row. Raises RecordError."""
  facts = record["json"]
  if not isinstance(facts, Mapping):
    raise RecordError(f"has json {excerpt(facts)}, which is not an object")
  return finevideo_captions({**facts, "original_video_filename": record["mp4"]})


def finevideo_captions(record: Mapping[str, Any]) -> list[Caption | RecordError]:
  """The captions of the scenes of a video. Raises RecordError."""
  video = record.get("original_video_filename")
  content = record.get("content_metadata")
  scenes = content.get("scenes") if isinstance(content, Mapping) else None
  if not isinstance(scenes, list) or not scenes:
    raise RecordError("has content_metadata without a list of scenes")
  captions: list[Caption | RecordError] = []
  for number, scene in enumerate(scenes, 1):
    try:
      captions.append({"video": video, **_scene(scene, number)})
    except RecordError as error:
      captions.append(error)
  return captions


def _scene(scene: Any, number: int) -> Caption:
  """The times and the caption of a scene. Raises RecordError."""
  times = scene.get("timestamps") if isinstance(scene, Mapping) else None
  if not isinstance(times, Mapping):
    raise RecordError(f"has scene {number} without timestamps")
  texts = []
  for activity in scene.get("activities") or []:
    text = activity.get("description") if isinstance(activity, Mapping) else None
    if isinstance(text, str) and text.strip():
      texts.append(text.strip() if text.strip().endswith(_ENDS) else text.strip() + ".")
  if not texts:
    raise RecordError(f"has scene {number} without activities")
  return {
    "start": clock_seconds(times.get("start_timestamp")),
    "end": clock_seconds(times.get("end_timestamp")),
    "caption": " ".join(texts),
  }


SHAPE = CaptionShape("FineVideo", frozenset(("mp4", "json")), finevideo_rows, has_scenes=True)
ALONE = CaptionShape(
  "FineVideo",
  frozenset(("content_metadata", "original_video_filename")),
  finevideo_captions,
  has_scenes=True,
)
