# SPDX-License-Identifier: Apache-2.0
"""The media of a LLaVA-style record: keys and timelines."""

from collections.abc import Mapping, Sequence
import re
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.folder_rates import folder_at_rate
from data_pipelines.manifest.media_keys import MEDIA, PLURALS, check_media_keys, check_times
from data_pipelines.manifest.report import RecordError
from data_pipelines.media import remote
from data_pipelines.sample import Scene, Timeline

LONGEST_PATH = 4096  # Characters, the limit of file systems.
_PICTURE = re.compile(r".*\.(jpe?g|png|webp|bmp|tiff?)", re.IGNORECASE)


def media_timelines(record: Mapping[str, Any], root: str) -> dict[str, tuple[Timeline, ...]]:
  """The timelines of a record by key.

  They are under one key of MEDIA, or under image and video, or there are none. Raises RecordError.
  """
  names = {key: _filled_key(record, key) for key in MEDIA}
  filled = [key for key in MEDIA if names[key]]
  if "scenes" in filled and len(filled) > 1:
    raise RecordError(f"has {' and '.join(filled)}; use one of them (scenes can mix kinds)")
  check_media_keys(record, filled)
  timelines = {}
  for key in filled:
    timelines[key] = _timelines(record[names[key]], key, record, root)
  check_times(record, timelines.get("video", ()))
  return timelines


def _filled_key(record: Mapping[str, Any], key: str) -> str:
  """The key that has media: `key`, its plural, or "".

  Raises RecordError if both have some.
  """
  plural = PLURALS.get(key, key)
  is_filled = record.get(key) not in (None, "", [])
  if plural == key or record.get(plural) in (None, "", []):
    return key if is_filled else ""
  if is_filled:
    raise RecordError(f"has {plural} and {key}; name all media in one of them")
  return plural


def check_text(text: str, where: str) -> None:
  """Raises RecordError for a text that is not valid UTF-8."""
  if text.isascii():
    return
  try:
    text.encode()
  except UnicodeEncodeError:
    raise RecordError(f"has {where} that is not UTF-8") from None


def _timelines(value: Any, key: str, record: Mapping[str, Any], root: str) -> tuple[Timeline, ...]:
  timelines: list[Timeline] = []
  if key == "scenes":
    groups = value if isinstance(value, list) and isinstance(value[0], list) else [value]
    for group in groups:
      timelines.append(scenes_timeline(group, root))
    return tuple(timelines)
  paths = value if isinstance(value, list) else [value]
  if key == "image":
    for path in paths:
      picture = Scene(medium_path(path, root, key), "image")
      timelines.append((picture,))
    return tuple(timelines)
  check_videos(paths)
  starts, ends = parts_of_videos(record, len(paths))
  for path, start, end in zip(paths, starts, ends, strict=True):
    t0 = optional_seconds(start, "start") or 0.0
    t1 = optional_seconds(end, "end")
    scene = checked_scene(folder_at_rate(path, record), root, key, t0=t0, t1=t1)
    timelines.append((scene,))
  return tuple(timelines)


def check_videos(paths: Sequence[Any]) -> None:
  """Raises RecordError for pictures in place of several videos."""
  pictures = [path for path in paths if isinstance(path, str) and _PICTURE.fullmatch(path)]
  if len(pictures) == len(paths) > 1:
    raise RecordError(
      f"lists {len(paths)} pictures as videos, such as {excerpt(pictures[0])}; name their folder, "
      "or list them inside of videos, [[...]], beside messages"
    )


def parts_of_videos(record: Mapping[str, Any], count: int) -> tuple[list[Any], list[Any]]:
  """`start` and `end` of each video of a record.

  None where they are not given.
  """
  starts = _seconds_of_videos(record.get("start"), count, "start")
  ends = _seconds_of_videos(record.get("end"), count, "end")
  return starts, ends


def _seconds_of_videos(value: Any, count: int, key: str) -> list:
  """`start` or `end` of each video.

  A number for a single video, a list of the same length for several.
  """
  if value is None:
    return [None] * count
  values = value if isinstance(value, list) else [value]
  if len(values) != count:
    raise RecordError(f"has {count} videos but {len(values)} {key}")
  return values


def scenes_timeline(group: Any, root: str) -> Timeline:
  """A timeline of a list of scenes. Raises RecordError."""
  if not isinstance(group, list) or not group:
    raise RecordError(f"has scenes {excerpt(group)}, which is not a list of scenes")
  timeline = []
  end: float | None = 0.0  # End of the scene before; None if it is open.
  for entry in group:
    if not isinstance(entry, Mapping):
      raise RecordError(f"has the scene {excerpt(entry)}, which is not an object")
    begin = optional_seconds(entry.get("at", end), "at")
    if begin is None:
      raise RecordError("has a scene without at after one without t1")
    scene = checked_scene(
      entry.get("media"),
      root,
      "scenes",
      kind=entry.get("kind", "video"),
      begin=begin,
      t0=optional_seconds(entry.get("t0", 0), "t0"),
      t1=optional_seconds(entry.get("t1"), "t1"),
    )
    if scene.kind == "image" and len(group) > 1:
      raise RecordError("has an image among scenes; inside a video it is a still")
    timeline.append(scene)
    end = None if scene.t1 is None else begin + scene.t1 - scene.t0
  return tuple(timeline)


def checked_scene(
  path: Any,
  root: str,
  key: str,
  *,
  kind: str = "video",
  t0: float | None = 0.0,
  t1: float | None = None,
  begin: float = 0.0,
) -> Scene:
  """A scene of one medium. Raises RecordError for impossible times."""
  if kind not in ("video", "still", "image"):
    raise RecordError(f"has a scene of kind {excerpt(kind)}, not video, still or image")
  if t0 is None or t0 < 0 or begin < 0:
    raise RecordError("has a time before 0")
  if t1 is not None and t1 <= t0:
    raise RecordError(f"has a scene from {t0:g} to {t1:g} seconds, which ends before it begins")
  if kind == "still" and t1 is None:
    raise RecordError("has a still without t1, so without a length")
  return Scene(medium_path(path, root, key), kind, t0, t1, begin)


def optional_seconds(value: Any, key: str) -> float | None:
  """A number of seconds, or None for None. Raises RecordError."""
  if value is None:
    return None
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not abs(value) < 1e9:  # Also rejects NaN and infinity.
    raise RecordError(f"has {key} {excerpt(value)}, which is not a number of seconds")
  return float(value)


def medium_path(value: Any, root: str, key: str) -> str:
  """The path of a medium below `root`. Raises RecordError."""
  if not isinstance(value, str) or not value.strip() or "\0" in value:
    raise RecordError(f"names a medium by {excerpt(value)} in {key}, which is not a path")
  if value.startswith("data:") or len(value) > LONGEST_PATH:
    raise RecordError(
      f"names a medium by {len(value)} characters {excerpt(value, 40)} in {key}, which is not a "
      "path; save what they hold as a file"
    )
  check_text(value, "a path")
  return remote.join(root, value)
