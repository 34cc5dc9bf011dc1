# SPDX-License-Identifier: Apache-2.0
"""Records with `messages`: OpenAI's, ms-swift's and Qwen's.

  {"messages": [{"role": "user", "content": "<video>What happens?"},
                {"role": "assistant", "content": "A goal."}], "videos": ["a.mp4"]}

A content is a text, in which <image> and <video> show the next of `images` and `videos`, or a list
of parts: {"type": "text", "text"}, {"type": "image", "image"}, {"type": "video", "video",
"video_start", "video_end"}. Media stay where they stand.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest import placement
from data_pipelines.manifest.conversation import (
  Part,
  PartsOfTurn,
  check_learned,
  conversation_sample,
  image_timeline,
  video_timeline,
)
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.folder_rates import given_rates
from data_pipelines.manifest.llava_media import check_videos, parts_of_videos
from data_pipelines.manifest.media_keys import check_media_keys, check_times, check_turn_keys
from data_pipelines.manifest.options import has_options, turns_with_options
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import IMAGE, VIDEO, Sample, Timeline

ROLES = {
  "user": "user",
  "human": "user",
  "assistant": "assistant",
  "gpt": "assistant",
  "system": "system",
  "developer": "system",
}
MEDIA_KEYS = ("video", "videos", "image", "images")
_TEXTS = ("text", "input_text", "output_text")
_IMAGES = ("image", "image_url")
_VIDEOS = ("video", "video_url")
# Keys whose content would change the prompt, and which have no place in a sample.
_UNREAD = ("audios", "audio", "tools", "objects")


def parse_messages(
  record: Mapping[str, Any], origin: str, root: str, report: ManifestReport
) -> Sample:
  """A record with `messages` as a Sample. Raises RecordError."""
  listed = record.get("messages")
  if listed is None:
    listed = record.get("conversations")
  if not isinstance(listed, list) or not listed:
    raise RecordError(f"has messages {excerpt(listed)}, which is not a list of messages")
  for key in _UNREAD:
    if record.get(key):
      raise RecordError(f'has "{key}": {excerpt(record[key])}, which is not read')
  queues = {
    IMAGE: [image_timeline(value, root) for value in _listed(record, "image")],
    VIDEO: _videos(record, root),
  }
  turns = []
  if record.get("system"):
    turns.append(("system", [_checked_content(record["system"], "system")]))
  for number, message in enumerate(listed, 1):
    turns.append(_turn(message, number))
  if has_options(record):
    turns = _asked(record, turns)
  placed = _placed(turns, queues, root, report)
  sample = conversation_sample(record, placed, origin, report)
  check_media_keys(record, ["media"] if sample.media else [], MEDIA_KEYS)
  check_times(record, sample.media)
  return sample


def _videos(record: Mapping[str, Any], root: str) -> list[Timeline]:
  """The videos of a record, each from its `start` to its `end`."""
  videos = _listed(record, "video")
  if not videos:
    return []
  check_videos(videos)
  timelines = []
  for video, start, end in zip(videos, *parts_of_videos(record, len(videos)), strict=True):
    part = {"video": video}
    if not isinstance(video, Mapping):  # Which has a rate of its own.
      part |= given_rates(record)
    if start is not None:
      part["start"] = start
    if end is not None:
      part["end"] = end
    timelines.append(video_timeline(part, root))
  return timelines


def _listed(record: Mapping[str, Any], kind: str) -> list[Any]:
  """The entries of `images`, or of `image`.

  Raises RecordError if both have some.
  """
  filled = [key for key in (f"{kind}s", kind) if record.get(key) not in (None, "", [])]
  if not filled:
    return []
  if len(filled) > 1:
    raise RecordError(f"has {filled[1]} and {filled[0]}; name all media in one of them")
  value = record[filled[0]]
  return value if isinstance(value, list) else [value]


def _checked_content(content: Any, where: str) -> Any:
  if not isinstance(content, str | list):
    raise RecordError(
      f"has {where} {excerpt(content)}, which is neither a text nor a list of parts"
    )
  return content


def _turn(message: Any, number: int) -> tuple[str, list[Any]]:
  """(role, parts as they are written) of a message."""
  if not isinstance(message, Mapping) or "role" not in message:
    raise RecordError(f"has message {number} {excerpt(message)} without role and content")
  role = message["role"]
  if not isinstance(role, str) or role not in ROLES:
    raise RecordError(f"has message {number} from {excerpt(role)}, not user or assistant")
  check_learned(message, ROLES[role], f"message {number}")
  check_turn_keys(message, f"message {number}")
  if message.get("tool_calls"):
    raise RecordError(f"has message {number} with tool_calls, which are not read")
  content = _checked_content(message.get("content"), f"message {number} with content")
  return ROLES[role], content if isinstance(content, list) else [content]


def _asked(
  record: Mapping[str, Any], turns: list[tuple[str, list[Any]]]
) -> list[tuple[str, list[Any]]]:
  """The turns with the options that stand beside them."""
  texts = []
  for role, parts in turns:
    texts.append((role, "".join(_text(part) for part in parts if not _is_medium(part))))
  asked = []
  for (role, parts), (_, before), (_, text) in zip(
    turns, texts, turns_with_options(record, texts), strict=True
  ):
    if text != before and role == "user":
      parts = [*parts, text.removeprefix(before)]
    elif text != before:
      parts = [text]
    asked.append((role, parts))
  return asked


def _placed(
  turns: list[tuple[str, list[Any]]],
  queues: Mapping[str, list[Timeline]],
  root: str,
  report: ManifestReport,
) -> list[PartsOfTurn]:
  """The turns with their media in place of tags and parts."""
  has_parts = any(_is_medium(part) for _, parts in turns for part in parts)
  reads_tags = any(queues.values()) and not has_parts
  if not has_parts:
    texts = [(role, "".join(map(_text, parts))) for role, parts in turns]
    _check_tags(texts, queues)
    if reads_tags and not _has_tag(texts):
      turns = _with_tags_first(turns, queues)
      report.prepended += 1
  placed = []
  for role, parts in turns:
    shown: list[Part] = []
    for part in parts:
      if _is_medium(part):
        if role != "user":
          raise RecordError(f"shows a medium in a turn of {role}")
        shown.append(_medium(part, queues, root))
      elif reads_tags and role == "user":
        shown += _split(_text(part), queues)
      else:
        shown.append(_text(part))
    placed.append((role, shown))
  for tag, queue in queues.items():
    if queue:
      raise RecordError(f"has {len(queue)} more media than {tag} or parts that show them")
  return placed


def _is_medium(part: Any) -> bool:
  return isinstance(part, Mapping) and part.get("type") in (*_IMAGES, *_VIDEOS)


def _text(part: Any) -> str:
  """The text of a part that shows no medium."""
  if isinstance(part, str):
    return part
  is_text = isinstance(part, Mapping) and part.get("type") in _TEXTS
  if not is_text or not isinstance(part.get("text"), str):
    raise RecordError(f"has the part {excerpt(part)}, which is not a text, image or video")
  check_turn_keys(part, "a text")
  return part["text"]


def _medium(part: Mapping[str, Any], queues: Mapping[str, list[Timeline]], root: str) -> Timeline:
  """The medium of a part.

  One without a name shows the next of the record's list.
  """
  is_image = part["type"] in _IMAGES
  names = (*_IMAGES, *_VIDEOS, "path", "url", "scenes", "bytes")
  if any(part.get(name) is not None for name in names):
    return image_timeline(part, root) if is_image else video_timeline(part, root)
  tag = IMAGE if is_image else VIDEO
  if not queues[tag]:
    raise RecordError(f"has the part {excerpt(part)}, which names no medium")
  return queues[tag].pop(0)


def _has_tag(texts: list[tuple[str, str]]) -> bool:
  return any(role == "user" and placement.TAG.search(text) for role, text in texts)


def _check_tags(texts: list[tuple[str, str]], queues: Mapping[str, list[Timeline]]) -> None:
  """Raises RecordError for another number of tags than of media.

  In a record without media a tag inside a sentence is ordinary text.
  """
  if not any(queues.values()):
    tag = placement.asks_for_media(texts, anywhere=False)
    if tag:
      raise RecordError(f"has {tag} but no medium: it has no videos or images")
    return
  if not _has_tag(texts):
    placement.check_other_tags(texts)
    return
  for tag, queue in queues.items():
    count = sum(text.count(tag) for role, text in texts if role == "user")
    if count != len(queue):
      kind = "images" if tag == IMAGE else "videos"
      raise RecordError(f"has {len(queue)} {kind} but {count} {tag}")


def _with_tags_first(
  turns: list[tuple[str, list[Any]]], queues: Mapping[str, list[Timeline]]
) -> list[tuple[str, list[Any]]]:
  """The turns with a tag for each medium before the first question."""
  tags = "".join(f"{tag}\n" * len(queue) for tag, queue in queues.items())
  tagged = list(turns)
  for number, (role, parts) in enumerate(turns):
    if role == "user":
      tagged[number] = role, [tags, *parts]
      break
  return tagged


def _split(text: str, queues: Mapping[str, list[Timeline]]) -> list[Part]:
  """A text's parts, with media in place of tags."""
  parts: list[Part] = []
  begin = 0
  for match in placement.TAG.finditer(text):
    parts.append(text[begin : match.start()])
    parts.append(queues[match[0]].pop(0))
    begin = match.end()
  return [*parts, text[begin:]]
