# SPDX-License-Identifier: Apache-2.0
"""Writes samples as manifest records: the inverse of the readers of manifests."""

from collections.abc import Callable, Sequence
from typing import Any

from data_pipelines.sample import IMAGE, VIDEO, Sample, Scene, Timeline, Turn

_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}

Rename = Callable[[str], Any]  # Name of a medium -> what the record says in its place.


def llava_record(sample: Sample, rename: Rename) -> dict[str, Any]:
  """A sample as a LLaVA-style record."""
  conversations = []
  for turn in sample.turns:
    texts = [part if isinstance(part, str) else IMAGE for part in turn.parts]
    conversations.append({"from": _SPEAKERS[turn.role], "value": "".join(texts)})
  media = _llava_media(sample.media, rename) if sample.media else {}
  return _names(sample) | media | {"conversations": conversations}


def _llava_media(timelines: Sequence[Timeline], rename: Rename) -> dict[str, Any]:
  """The fields of a LLaVA-style record that name its media."""
  are_pictures = all(map(_is_picture, timelines))
  are_parts = all(map(_is_part, timelines))
  if not (are_pictures or are_parts):
    scenes = [_scenes(timeline, rename) for timeline in timelines]
    return {"scenes": _single(scenes)}
  first_scenes = [timeline[0] for timeline in timelines]
  names = [rename(scene.media) for scene in first_scenes]
  if are_pictures:
    return {"image": _single(names)}
  return {"video": _single(names)} | _llava_times(first_scenes)


def _llava_times(scenes: Sequence[Scene]) -> dict[str, Any]:
  """The fields `start` and `end` of videos that are shown in part."""
  fields = {}
  starts = [scene.t0 for scene in scenes]
  ends = [scene.t1 for scene in scenes]
  if any(starts):
    fields["start"] = _single(starts)
  if any(end is not None for end in ends):
    fields["end"] = _single(ends)
  return fields


def messages_record(sample: Sample, rename: Rename) -> dict[str, Any]:
  """A sample as a record with `messages`.

  The content of a turn with media is a list of parts.
  """
  messages = []
  for turn in sample.turns:
    content = _content(sample, turn, rename)
    messages.append({"role": turn.role, "content": content})
  return _names(sample) | {"messages": messages}


def _names(sample: Sample) -> dict[str, Any]:
  record = {}
  if sample.id != sample.origin:
    record["id"] = sample.id
  if sample.kind:
    record["kind"] = sample.kind
  return record


def _content(sample: Sample, turn: Turn, rename: Rename) -> str | list[dict[str, Any]]:
  if all(isinstance(part, str) for part in turn.parts):
    text = turn.text
    if IMAGE not in text and VIDEO not in text:
      return text
  parts: list[dict[str, Any]] = []
  for part in turn.parts:
    if isinstance(part, str):
      parts.append(dict(type="text", text=part))
    else:
      parts.append(_part(sample.media[part], rename))
  return parts


def _part(timeline: Timeline, rename: Rename) -> dict[str, Any]:
  """A medium as a part of a message.

  The field `scenes`, of videos that are joined from several files, is an extension of FiLax.
  """
  scene = timeline[0]
  if _is_picture(timeline):
    return dict(type="image", image=rename(scene.media))
  if not _is_part(timeline):
    return dict(type="video", scenes=_scenes(timeline, rename))
  part = dict(type="video", video=rename(scene.media))
  if scene.t0:
    part["video_start"] = scene.t0
  if scene.t1 is not None:
    part["video_end"] = scene.t1
  return part


def _scenes(timeline: Timeline, rename: Rename) -> list[dict[str, Any]]:
  return [_scene(scene, rename) for scene in timeline]


def _scene(scene: Scene, rename: Rename) -> dict[str, Any]:
  entry: dict[str, Any] = dict(media=rename(scene.media))
  if scene.kind != "video":
    entry["kind"] = scene.kind
  if scene.t0:
    entry["t0"] = scene.t0
  if scene.t1 is not None:
    entry["t1"] = scene.t1
  entry["at"] = scene.at
  return entry


def _single(values: Sequence[Any]) -> Any:
  """The value itself if there is only one, else a list."""
  return values[0] if len(values) == 1 else list(values)


def _is_picture(timeline: Timeline) -> bool:
  return timeline[0].kind == "image"


def _is_part(timeline: Timeline) -> bool:
  """Whether a timeline is one video file or a part of it."""
  scene = timeline[0]
  return len(timeline) == 1 and scene.kind == "video" and not scene.at
