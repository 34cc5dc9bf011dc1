# SPDX-License-Identifier: Apache-2.0
"""Frames and rates in the spellings of vLLM, SGLang and transformers.

  vLLM          {"media_io_kwargs": {"video": {"num_frames": 32, "fps": 2}}}           whole request
  transformers  {"chat_template_kwargs": {"num_frames": 32, "fps": 2}}                 whole request
  SGLang        {"type": "video_url", "video_url": {"url": ..., "max_frames": 32, "fps": 2}}
  DashScope     {"type": "video_url", "video_url": {"url": ...}, "fps": 2}
  FiLax         {"num_frames": 32, "fps": 2, "start": 10, "end": 20}, in any of these places

Values that contradict each other are an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from filax.serve.json_numbers import is_number
from filax.serve.requests import FrameSettings, RequestError

# Spelling -> field of FrameSettings.
SPELLINGS = {
  "fps": "fps",
  "num_frames": "frames",
  "max_frames": "frames",
  "nframes": "frames",
  "start": "start",
  "video_start": "start",
  "end": "end",
  "video_end": "end",
}
_MOST_FPS = 1000.0


def frame_settings(body: Mapping[str, Any], *parts: Mapping[str, Any]) -> FrameSettings:
  """The frames of one video, from the body and its parts.

  parts: the part of the message, and the object inside it. Raises RequestError for invalid values,
  and for two different ones.
  """
  values: dict[str, Any] = {}
  sources: dict[str, str] = {}
  for place, fields in _places(body, parts):
    for spelling, name in SPELLINGS.items():
      value = fields.get(spelling)
      if value is None:
        continue
      source = f"{place}{spelling}"
      value = _checked(name, value, source)
      if name in values and values[name] != value:
        raise RequestError(
          f"{sources[name]}={values[name]:g} and {source}={value:g} contradict each other.",
          code="contradiction",
          parameter=source,
        )
      values[name] = value
      sources[name] = source
  settings = FrameSettings(**values)
  if settings.end is not None and settings.end <= settings.start:
    raise RequestError(
      f"end={settings.end:g} must lie after start={settings.start:g}.",
      parameter=sources["end"],
    )
  return settings


def other_fields(body: Mapping[str, Any]) -> Iterator[str]:
  """The fields beside those of frames, which have no effect: "chat_template_kwargs.tools"."""
  for place, fields in _places(body):
    for name, value in fields.items():
      is_place = place == "media_io_kwargs." and name == "video"
      if place and name not in SPELLINGS and not is_place and value is not None:
        yield f"{place}{name}"


def _places(
  body: Mapping[str, Any], parts: Sequence[Mapping[str, Any]] = ()
) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """(prefix in messages, fields) of every place that may hold frame settings."""
  yield "", body
  for name in ("media_io_kwargs", "mm_processor_kwargs", "chat_template_kwargs"):
    fields = body.get(name)
    if fields is None:
      continue
    if not isinstance(fields, Mapping):
      raise RequestError(f"{name} must be an object.", parameter=name)
    yield f"{name}.", fields
    inner = fields.get("video") if name == "media_io_kwargs" else None
    if isinstance(inner, Mapping):
      yield f"{name}.video.", inner
  for part in parts:
    yield "video_url.", part


def _checked(name: str, value: Any, source: str) -> float | int:
  """A number of the right kind. Raises RequestError."""
  if not is_number(value):
    raise RequestError(f"{source}={value!r} is not a number.", parameter=source)
  if name == "frames":
    if value != int(value) or value < 1:
      raise RequestError(f"{source}={value:g} must be a whole number above 0.", parameter=source)
    return int(value)
  if name == "fps" and not 0 < value <= _MOST_FPS:
    limits = f"above 0 and at most {_MOST_FPS:g}"
    raise RequestError(f"{source}={value:g} must be {limits}.", parameter=source)
  if value < 0:
    raise RequestError(f"{source}={value:g} must not be negative.", parameter=source)
  return float(value)
