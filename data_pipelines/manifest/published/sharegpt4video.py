# SPDX-License-Identifier: Apache-2.0
"""ShareGPT4Video: captions of key frames, and one of the whole part.

  {"video_id": "0e1a", "video_path": "ego4d/0e1a.mp4", "keyframe": [0, 2, 4],
   "timestamp": ["00:00:00.000", "00:00:12.000"], "zip_folder": "ego4d/ego4d_videos_1.zip",
   "captions": [{"idx": "1", "content": "…"}, {"idx": "-1", "content": "A man opens a door."}]}

The caption with the idx -1 is read. It is of the part from the first to the last time: some files
are longer.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.clock_text import clock_seconds
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.llava_media import optional_seconds
from data_pipelines.manifest.published.shape import Caption, CaptionShape
from data_pipelines.manifest.report import RecordError

WHOLE = "-1"  # The idx of the caption of the whole part.


def sharegpt4video_captions(record: Mapping[str, Any]) -> list[Caption | RecordError]:
  """The caption of the whole part of a record. Raises RecordError."""
  times = record["timestamp"]
  if not isinstance(times, list) or len(times) < 2:
    raise RecordError(f"has timestamp {excerpt(times)}, which is not a list of times")
  seconds = [_seconds(time) for time in times]
  if seconds != sorted(seconds):
    raise RecordError(f"has timestamp {excerpt(times)}, whose times are not in order")
  return [
    {
      "id": record.get("video_id"),
      "video": record["video_path"],
      "start": seconds[0],
      "end": seconds[-1],
      "caption": _whole(record["captions"]),
    }
  ]


def _seconds(time: Any) -> float:
  if isinstance(time, str):
    return clock_seconds(time)
  return optional_seconds(time, "timestamp") or 0.0


def _whole(captions: Any) -> str:
  """The caption of the whole part. Raises RecordError."""
  for entry in captions if isinstance(captions, list) else []:
    if isinstance(entry, Mapping) and str(entry.get("idx")) == WHOLE:
      return entry.get("content") or ""
  raise RecordError(f"has captions {excerpt(captions)}, of which none has the idx {WHOLE}")


SHAPE = CaptionShape(
  "ShareGPT4Video", frozenset(("video_path", "captions", "timestamp")), sharegpt4video_captions
)
