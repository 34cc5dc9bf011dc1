# SPDX-License-Identifier: Apache-2.0
"""Shot2Story: the shots of a video, each a file with its caption.

  {"video": "x.mp4", "id": 0, "whole_caption": "…", "whole_ASR": "…", "nvid": "x.mp4",
   "video_names": ["x_1.mp4", "x_2.mp4"], "captions": ["A man …", "A cup …"],
   "audio_captions": ["…", "…"], "ASR": ["…", "…"]}

Neither speech nor the summary of the whole video is read.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.published.shape import WHOLE_VIDEO, Caption, CaptionShape
from data_pipelines.manifest.report import RecordError


def shot2story_captions(record: Mapping[str, Any]) -> list[Caption | RecordError]:
  """The captions of the shots of a record. Raises RecordError."""
  names = record["video_names"]
  texts = record["captions"]
  if not isinstance(names, list) or not isinstance(texts, list) or len(names) != len(texts):
    raise RecordError(f"has video_names {excerpt(names)}, which are not those of its captions")
  captions: list[Caption | RecordError] = []
  for name, text in zip(names, texts, strict=True):
    captions.append({"video": name, "caption": text, WHOLE_VIDEO: record.get("video")})
  return captions


SHAPE = CaptionShape(
  "Shot2Story",
  frozenset(("whole_caption", "video_names", "captions")),
  shot2story_captions,
  has_scenes=True,
)
