# SPDX-License-Identifier: Apache-2.0
"""Requests to a worker: JSON into turns, media and settings.

  {"id": 7, "prompt": "What is on red?", "media": ["a.mp4"], "max_new_tokens": 16}

  id              any JSON value; it comes back with the answer
  prompt          a text; or a list of texts and {"media": n}, where the n-th medium is shown
  media           of "path", or {"path": ..., "start": seconds, "end": seconds}; default: none.
  video           short for media with one entry
  max_new_tokens, temperature, top_p, top_k, seed
                  default: the checkpoint's config.infer
  until           a text or a list of texts: the answer ends before the first of them

Each <image> or <video> in a prompt's text shows the next medium if there are as many of them as
media; without any, the media are shown before the text. All other text is ordinary, control tokens
included.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re
from typing import Any

from data_pipelines.media.content import content_kind
from data_pipelines.sample import IMAGE, VIDEO, Scene, Timeline, Turn
from data_pipelines.text import templates
from filax import setting_kinds

_PLACEHOLDER = re.compile(f"{IMAGE}|{VIDEO}")
_SETTINGS = dict(
  max_new_tokens=setting_kinds.whole_number(1),
  temperature=setting_kinds.number(0.0),
  top_p=setting_kinds.number(0.0, high=1, above=True),
  top_k=setting_kinds.whole_number(0),
  seed=setting_kinds.whole_number(0),
)
_KEYS = ("id", "prompt", "media", "video", "until", *_SETTINGS)
_CLIP_KEYS = ("path", "start", "end")


@dataclasses.dataclass(frozen=True)
class WorkerRequest:
  """One question to a worker."""

  id: Any
  turn: Turn
  media: tuple[Timeline, ...]
  settings: tuple[tuple[str, Any], ...]  # Those of `generate` that are set, sorted by name.
  until: tuple[str, ...]

  def shortened(self, answer: str) -> str:
    """An answer up to the first text of `until`."""
    places = [answer.find(text) for text in self.until]
    ends = [place for place in places if place >= 0]
    return answer[: min(ends)].strip() if ends else answer


def parse_request(record: Any) -> WorkerRequest:
  """A request from its JSON.

  Raises ValueError with one sentence for a request that cannot be understood, or media that cannot
  be opened.
  """
  if not isinstance(record, Mapping):
    raise ValueError(f"A request is an object, not {type(record).__name__}.")
  unknown = sorted(set(record) - set(_KEYS))
  if unknown:
    raise ValueError(f"A request has no {unknown[0]!r}; its keys are {', '.join(_KEYS)}.")
  entries = _media_entries(record)
  timelines = tuple(map(_timeline, entries))
  turn = Turn("user", _prompt_parts(record.get("prompt"), len(timelines)))
  settings = []
  for name, setting in sorted(_SETTINGS.items()):
    value = record.get(name)
    if value is None:
      continue
    if not setting.fits(value):
      raise ValueError(f"{name}={value!r} cannot be used. Set it to {setting.words}.")
    settings.append((name, value))
  return WorkerRequest(record.get("id"), turn, timelines, tuple(settings), _until(record))


def _media_entries(record: Mapping[str, Any]) -> Sequence[Any]:
  """The media of a request, of either key."""
  media = record.get("media")
  video = record.get("video")
  if media is not None and video is not None:
    raise ValueError("A request has media or video, not both.")
  if video is not None:
    return [video]
  if media is None:
    return []
  if not isinstance(media, list):
    raise ValueError(f"media={media!r} is not a list. Set it to a list of paths.")
  return media


def _timeline(entry: Any) -> Timeline:
  """One medium: a path, or a part of a video in seconds."""
  clip = dict(path=entry) if isinstance(entry, str) else entry
  if not isinstance(clip, Mapping) or not isinstance(clip.get("path"), str):
    raise ValueError(f"{entry!r} is not a medium. Set it to a path, or an object with a path.")
  unknown = sorted(set(clip) - set(_CLIP_KEYS))
  if unknown:
    raise ValueError(f"A medium has no {unknown[0]!r}; its keys are {', '.join(_CLIP_KEYS)}.")
  path = clip["path"]
  start = _seconds(clip, "start") or 0.0
  end = _seconds(clip, "end")
  if end is not None and end <= start:
    raise ValueError(f"{path}: the part from {start:g} to {end:g} s is empty.")
  if content_kind(path) == "image":
    return (Scene(path, "image"),)
  return (Scene(path, "video", start, end),)


def _seconds(clip: Mapping[str, Any], name: str) -> float | None:
  """A bound of a part; None if it is open."""
  value = clip.get(name)
  if value is None:
    return None
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not 0 <= value < math.inf:
    raise ValueError(f"{name}={value!r} is not a time. Set it to seconds from 0 on.")
  return float(value)


def _prompt_parts(prompt: Any, media: int) -> tuple[str | int, ...]:
  """The parts of the turn (data_pipelines.sample.Turn)."""
  if isinstance(prompt, str):
    return _text_parts(prompt, media)
  if not isinstance(prompt, list):
    raise ValueError(f"prompt={prompt!r} is neither a text nor a list of texts and media.")
  parts: list[str | int] = []
  for part in prompt:
    if isinstance(part, str):
      parts.append(part)
    elif isinstance(part, Mapping) and set(part) == {"media"} and type(part["media"]) is int:
      parts.append(part["media"])
    else:
      raise ValueError(f"{part!r} is not a part of a prompt. Set it to a text or {{'media': n}}.")
  numbers = [part for part in parts if isinstance(part, int)]
  if numbers != list(range(media)):
    raise ValueError(f"The prompt shows the media {numbers}, but has to show {media} in order.")
  return tuple(parts)


def _text_parts(text: str, media: int) -> tuple[str | int, ...]:
  """The parts of a prompt; without placeholders, media come first."""
  pieces = _PLACEHOLDER.split(text)
  placeholders = len(pieces) - 1
  if not media:
    return (text,)  # A placeholder without media is a word.
  if not placeholders:
    (turn,) = templates.question(text, media)
    return turn.parts
  if placeholders != media:
    raise ValueError(
      f"The prompt has {placeholders} of {IMAGE} and {VIDEO}, but the request has {media} media."
    )
  parts: list[str | int] = []
  for number, piece in enumerate(pieces[:-1]):
    parts += [piece, number] if piece else [number]
  return (*parts, pieces[-1])


def _until(record: Mapping[str, Any]) -> tuple[str, ...]:
  """The texts that end an answer."""
  until = record.get("until")
  if until is None:
    return ()
  texts = [until] if isinstance(until, str) else until
  if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
    raise ValueError(f"until={until!r} cannot be used. Set it to a text, or a list of texts.")
  return tuple(texts)
