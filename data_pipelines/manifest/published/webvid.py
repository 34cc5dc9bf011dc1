# SPDX-License-Identifier: Apache-2.0
"""WebVid: a clip and its title.

  videoid,contentUrl,duration,page_dir,name
  21179416,https://…/x.mp4,PT00H00M11S,006001_006050,Aerial shot of a winter forest

The video is <page_dir>/<videoid>.mp4. The duration is rounded and not used.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.named_videos import video_file
from data_pipelines.manifest.published.shape import Caption, CaptionShape
from data_pipelines.manifest.report import RecordError


def webvid_captions(record: Mapping[str, Any]) -> list[Caption | RecordError]:
  """The title of a clip as its caption. Raises RecordError."""
  file = video_file(record["videoid"])
  return [
    {
      "id": file.rpartition(".")[0],
      "video": f"{record['page_dir']}/{file}",
      "caption": record["name"],
    }
  ]


SHAPE = CaptionShape("WebVid", frozenset(("videoid", "page_dir", "name")), webvid_captions)
