# SPDX-License-Identifier: Apache-2.0
"""Samples from turns of texts and media, for readers of formats other than LLaVA's."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_pipelines.manifest import folder_rates
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.llava_media import (
  check_text,
  checked_scene,
  medium_path,
  optional_seconds,
  scenes_timeline,
)
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import Sample, Scene, Timeline, Turn

Part = str | Timeline
PartsOfTurn = tuple[str, list[Part]]  # (role, parts): what a reader makes of a turn.

FRAME_RATE = 2.0  # Pictures per second of a list of frames without a rate, as Qwen's.
# Fetching media while training is not bounded, and changes under a run.
_REMOTE = ("http://", "https://", "ftp://", "oss://", "hf://")
_CONTENTS = ("video", "image", "video_url", "image_url", "path", "url")
_STARTS = ("video_start", "start", "start_time")
_ENDS = ("video_end", "end", "end_time")


def conversation_sample(
  record: Mapping[str, Any], turns: Sequence[PartsOfTurn], origin: str, report: ManifestReport
) -> Sample:
  """A sample of turns.

  A first turn that is neither the user's nor the system's is dropped and counted. Raises
  RecordError without a question or an answer.
  """
  turns = list(turns)
  first = 0
  while first < len(turns) and turns[first][0] == "system":
    first += 1
  if first < len(turns) and turns[first][0] == "assistant":
    del turns[first]
    report.dropped_turns += 1
  media: list[Timeline] = []
  placed = []
  for number, (role, parts) in enumerate(turns, 1):
    placed.append(Turn(role, tuple(_numbered(parts, media, f"turn {number}"))))
  roles = {turn.role for turn in placed}
  if "user" not in roles:
    raise RecordError("has no turn from user")
  if "assistant" not in roles:
    raise RecordError("has no turn from assistant")
  for turn in placed:
    if turn.role == "assistant" and not turn.text.strip():
      raise RecordError("has an empty answer")
  return Sample(
    id=record_name(record, "id") or origin,
    turns=tuple(placed),
    media=tuple(media),
    origin=origin,
    kind=record_name(record, "kind"),
  )


def _numbered(parts: Sequence[Part], media: list[Timeline], where: str) -> list[str | int]:
  """The parts of a turn, with numbers of media.

  Texts that follow each other are joined.
  """
  numbered: list[str | int] = []
  for part in parts:
    if not isinstance(part, str):
      media.append(part)
      numbered.append(len(media) - 1)
      continue
    check_text(part, where)
    if numbered and isinstance(numbered[-1], str):
      numbered[-1] += part
    elif part:
      numbered.append(part)
  return numbered


def check_learned(turn: Mapping[str, Any], role: str, where: str) -> None:
  """Raises RecordError for an answer that must not be learned.

  Every answer is learned. Turns of other roles are not learned anyway.
  """
  if role != "assistant":
    return
  for key in ("loss", "loss_scale", "weight", "train", "trainable"):
    if turn.get(key) in (False, 0):
      raise RecordError(f"has {where} with {key} {excerpt(turn[key])}, which is not read")


def record_name(record: Mapping[str, Any], key: str) -> str:
  """`id` or `kind` of a record; "" if absent (0 is valid)."""
  value = record.get(key)
  if value in (None, [], {}):
    return ""
  text = str(value)
  check_text(text, key)
  return text


def image_timeline(value: Any, root: str) -> Timeline:
  """A picture: a path, or an object with one. Raises RecordError."""
  content, _ = _unwrapped(value)
  return (Scene(local_path(content, root, "image"), "image"),)


def video_timeline(value: Any, root: str) -> Timeline:
  """A video: a path, a list of frames, or an object.

  An object holds one of the two and its times, as Qwen's {"video", "video_start", "video_end"}. For
  frames, or a folder of frames,
  "sample_fps", "raw_fps" or "fps" is their rate. The fps of a file is not read:
  config.data.sampling decides how many frames are taken. Raises RecordError.
  """
  content, facts = _unwrapped(value)
  if content is None and isinstance(facts.get("scenes"), list):
    return _scenes(facts["scenes"], root)
  if isinstance(content, list):
    return _frames(content, facts, root)
  start = optional_seconds(_first(facts, _STARTS), "start") or 0.0
  end = optional_seconds(_first(facts, _ENDS), "end")
  named = folder_rates.folder_at_rate(content, facts)
  scene = checked_scene(local_path(named, root, "video"), "", "video", t0=start, t1=end)
  return (scene,)


def _unwrapped(value: Any) -> tuple[Any, dict[str, Any]]:
  """(the name of a medium, the facts beside it).

  Objects lie inside each other: {"type": "video_url", "video_url": {"url": …, "fps": 2}}.
  """
  facts: dict[str, Any] = {}
  while isinstance(value, Mapping):
    facts = {**value, **facts}
    if value.get("bytes") is not None or value.get("data") is not None:
      raise RecordError("has the bytes of a medium in its text; save them as a file")
    value = _first(value, _CONTENTS)
  return value, facts


def _first(facts: Mapping[str, Any], keys: Sequence[str]) -> Any:
  for key in keys:
    if facts.get(key) is not None:
      return facts[key]
  return None


def _frames(paths: list[Any], facts: Mapping[str, Any], root: str) -> Timeline:
  """A list of frames as stills, one after the other."""
  rate = optional_seconds(_first(facts, folder_rates.KEYS), "fps")
  if rate is None:
    rate = FRAME_RATE
  if not paths or rate <= 0:
    raise RecordError(f"has {len(paths)} frames at {rate:g} a second, which is not a video")
  scenes = []
  for number, path in enumerate(paths):
    medium = local_path(_unwrapped(path)[0], root, "video")
    scenes.append(Scene(medium, "still", 0.0, 1 / rate, number / rate))
  return tuple(scenes)


def _scenes(entries: list[Any], root: str) -> Timeline:
  """A timeline of scenes, as in LLaVA-style records."""
  if not entries or not all(isinstance(entry, Mapping) for entry in entries):
    raise RecordError(f"has scenes {excerpt(entries)}, which is not a list of scenes")
  local = []
  for entry in entries:
    local.append({**entry, "media": local_path(entry.get("media"), root, "scenes")})
  return scenes_timeline(local, "")


def local_path(value: Any, root: str, key: str) -> str:
  """The path of a medium below `root`.

  "file://" is left out. Raises RecordError.
  """
  if isinstance(value, str):
    if value.lower().startswith(_REMOTE):
      raise RecordError(
        f"names a medium by the address {excerpt(value)} in {key}, which is not fetched; save it "
        "as a file"
      )
    value = value.removeprefix("file://")
  return medium_path(value, root, key)
