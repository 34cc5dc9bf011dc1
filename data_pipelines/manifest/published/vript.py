# SPDX-License-Identifier: Apache-2.0
"""Vript: the script of a video, scene by scene; a scene is a file.

  {"meta": {"video_id": "339dXVNQXac"}, "data": {"339dXVNQXac-Scene-001": {
     "video_id": "339dXVNQXac", "clip_id": "339dXVNQXac-Scene-001", "voiceover": ["…"],
     "caption": {"shot_type": "…", "content": "A man …", "scene_title": "…"}}}}

The clip is <video_id>/<clip_id>.mp4. Its `content` is read, not its voice-over.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.published.shape import Caption, CaptionShape
from data_pipelines.manifest.report import RecordError


def vript_captions(record: Mapping[str, Any]) -> list[Caption | RecordError]:
  """The captions of the scenes of a record. Raises RecordError."""
  data = record["data"]
  if not isinstance(data, Mapping) or not data:
    raise RecordError(f"has data {excerpt(data)}, which is not an object of scenes")
  return [_scene(name, scene) for name, scene in data.items()]


def _scene(name: str, scene: Any) -> Caption | RecordError:
  caption = scene.get("caption") if isinstance(scene, Mapping) else None
  content = caption.get("content") if isinstance(caption, Mapping) else None
  video = scene.get("video_id") if isinstance(scene, Mapping) else None
  if not isinstance(content, str) or not isinstance(video, str):
    return RecordError(f"has the scene {excerpt(name)} without a video_id and a content")
  clip = str(scene.get("clip_id") or name)
  return {"id": clip, "video": f"{video}/{clip}.mp4", "caption": content}


SHAPE = CaptionShape("Vript", frozenset(("meta", "data")), vript_captions, has_scenes=True)
