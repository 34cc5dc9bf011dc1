# SPDX-License-Identifier: Apache-2.0
"""Panda-70M: parts of a video of YouTube, each with a caption.

  videoID,url,timestamp,caption,matching_score
  ---4IxR2xOg,https://…,"[['0:00:16.300', '0:00:32.566']]",['A news anchor talks.'],[0.45]

The video is <videoID>.mp4, as long as on YouTube.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.clock_text import clock_seconds
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.literal_text import literal_list
from data_pipelines.manifest.named_videos import video_file
from data_pipelines.manifest.published.shape import Caption, CaptionShape
from data_pipelines.manifest.report import RecordError


def panda_captions(record: Mapping[str, Any]) -> list[Caption | RecordError]:
  """The captions of the parts of a video. Raises RecordError."""
  times = _listed(record, "timestamp")
  texts = _listed(record, "caption")
  if len(times) != len(texts):
    raise RecordError(f"has {len(times)} times and {len(texts)} captions")
  video = video_file(record["videoID"])
  captions: list[Caption | RecordError] = []
  for span, text in zip(times, texts, strict=True):
    try:
      captions.append({"video": video, "caption": text, **_part(span)})
    except RecordError as error:
      captions.append(error)
  return captions


def _listed(record: Mapping[str, Any], key: str) -> list[Any]:
  value = record[key]
  if isinstance(value, str):
    return literal_list(value, key)
  if not isinstance(value, list):
    raise RecordError(f"has {key} {excerpt(value)}, which is not a list")
  return value


def _part(span: Any) -> dict[str, float]:
  """The start and the end of a part. Raises RecordError."""
  if not isinstance(span, list | tuple) or len(span) != 2:
    raise RecordError(f"has the times {excerpt(span)}, which are not a start and an end")
  return {"start": clock_seconds(span[0]), "end": clock_seconds(span[1])}


SHAPE = CaptionShape(
  "Panda-70M", frozenset(("videoID", "timestamp", "caption")), panda_captions, has_scenes=True
)
