# SPDX-License-Identifier: Apache-2.0
"""OpenVid-1M: a clip, its caption and its length.

  video,caption,aesthetic score,motion score,…,camera motion,frame,fps,seconds
  a_0_0to100.mp4,A man opens a door.,5.1,3.2,…,static,100,25.0,4.0

The length is `seconds`.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.published.shape import Caption, CaptionShape
from data_pipelines.manifest.report import RecordError


def openvid_captions(record: Mapping[str, Any]) -> list[Caption | RecordError]:
  """The caption of a record. Raises RecordError."""
  try:
    duration = float(record["seconds"])
  except (TypeError, ValueError):
    raise RecordError(f"has seconds {excerpt(record['seconds'])}, which is not a number") from None
  return [{"video": record["video"], "caption": record["caption"], "duration": duration}]


SHAPE = CaptionShape(
  "OpenVid-1M", frozenset(("video", "caption", "camera motion", "seconds")), openvid_captions
)
