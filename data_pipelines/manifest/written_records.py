# SPDX-License-Identifier: Apache-2.0
"""Samples as records: what the readers of manifests read, written."""

from collections.abc import Callable, Sequence
from typing import Any

from data_pipelines.sample import IMAGE, VIDEO, Sample, Scene, Timeline, Turn

_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}

Rename = Callable[[str], Any]  # The name of a medium in a record.


def llava_record(sample: Sample, rename: Rename) -> dict[str, Any]:
  """A sample as a LLaVA-style record."""
  turns = []
  for turn in sample.turns:
    text = "".join(part if isinstance(part, str) else IMAGE for part in turn.parts)
    turns.append({"from": _SPEAKERS[turn.role], "value": text})
  record = _names(sample)
  timelines = sample.media
  if timelines and all(map(_is_picture, timelines)):
    record["image"] = _single([rename(timeline[0].media) for timeline in timelines])
  elif timelines and all(map(_is_part, timelines)):
    scenes = [timeline[0] for timeline in timelines]
    record["video"] = _single([rename(scene.media) for scene in scenes])
    if any(scene.t0 for scene in scenes):
      record["start"] = _single([scene.t0 for scene in scenes])
    if any(scene.t1 is not None for scene in scenes):
      record["end"] = _single([scene.t1 for scene in scenes])
  elif timelines:
    groups = [[_scene(scene, rename) for scene in timeline] for timeline in timelines]
    record["scenes"] = groups[0] if len(groups) == 1 else groups
  return record | {"conversations": turns}


def messages_record(sample: Sample, rename: Rename) -> dict[str, Any]:
  """A sample as a record with `messages`.

  Turns with media are lists of parts.
  """
  messages = []
  for turn in sample.turns:
    messages.append({"role": turn.role, "content": _content(sample, turn, rename)})
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

  `scenes` in it are FiLax's own.
  """
  scene = timeline[0]
  if _is_picture(timeline):
    return dict(type="image", image=rename(scene.media))
  if not _is_part(timeline):
    return dict(type="video", scenes=[_scene(scene, rename) for scene in timeline])
  part = dict(type="video", video=rename(scene.media))
  if scene.t0:
    part["video_start"] = scene.t0
  if scene.t1 is not None:
    part["video_end"] = scene.t1
  return part


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
  """The only value, or the list."""
  return values[0] if len(values) == 1 else list(values)


def _is_picture(timeline: Timeline) -> bool:
  return timeline[0].kind == "image"


def _is_part(timeline: Timeline) -> bool:
  """Whether a timeline is a file or a part of one."""
  scene = timeline[0]
  return len(timeline) == 1 and scene.kind == "video" and not scene.at
