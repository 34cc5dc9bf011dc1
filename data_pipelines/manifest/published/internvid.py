# SPDX-License-Identifier: Apache-2.0
"""InternVid: a part of a video of YouTube, and its caption.

  {"YoutubeID": "zCmXDCmMOwI", "Start_timestamp": "00:07:33.689", "End_timestamp": "00:07:51.085",
   "Caption": "a man talks about a product", "Aesthetic_Score": 4.3, "UMT_Score": 0.4}

The video is <YoutubeID>.mp4, as long as on YouTube.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.clock_text import clock_seconds
from data_pipelines.manifest.named_videos import video_file
from data_pipelines.manifest.published.shape import Caption, CaptionShape
from data_pipelines.manifest.report import RecordError


def internvid_captions(record: Mapping[str, Any]) -> list[Caption | RecordError]:
  """The caption of a record. Raises RecordError."""
  video = record["YoutubeID"]
  caption: Caption = {
    "id": f"{video}_{record['Start_timestamp']}",
    "video": video_file(video),
    "start": clock_seconds(record["Start_timestamp"]),
    "end": clock_seconds(record["End_timestamp"]),
    "caption": record["Caption"],
  }
  return [caption]


SHAPE = CaptionShape(
  "InternVid",
  frozenset(("YoutubeID", "Start_timestamp", "End_timestamp", "Caption")),
  internvid_captions,
)
