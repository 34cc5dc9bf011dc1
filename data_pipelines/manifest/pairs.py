# SPDX-License-Identifier: Apache-2.0
"""Records of one question and one answer, or of a caption.

  {"query": "<video>What happens?", "response": "A goal.", "videos": ["a.mp4"], "history": []}
  {"question": "What happens?", "answer": "A goal.", "video": "a.mp4"}
  {"image": "a.jpg", "caption": "A dog."}

`query` and `response` are ms-swift's; media are placed as in `messages`.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.messages import parse_messages
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import Sample

PAIRS = (("query", "response"), ("question", "answer"))
CAPTIONS = ("caption", "text")
MEDIA_KEYS = ("video", "videos", "image", "images")


def has_pair(record: Mapping[str, Any]) -> bool:
  """Whether a record has a question and an answer under known keys."""
  return _pair_keys(record) is not None


def has_caption(record: Mapping[str, Any]) -> bool:
  """Whether a record has a medium and a caption, and nothing else to be learned."""
  has_medium = any(record.get(key) for key in MEDIA_KEYS)
  return has_medium and any(isinstance(record.get(key), str) for key in CAPTIONS)


def parse_pair(record: Mapping[str, Any], origin: str, root: str, report: ManifestReport) -> Sample:
  """A question and its answer, after those of `history`. Raises RecordError."""
  keys = _pair_keys(record)
  assert keys is not None
  history = record.get("history") or []
  if not isinstance(history, list):
    raise RecordError(f"has history {excerpt(history)}, which is no list of pairs")
  messages = []
  for pair in [*history, [record[keys[0]], record[keys[1]]]]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
      raise RecordError(f"has history {excerpt(pair)}, which is no pair of texts")
    messages += _messages(*pair)
  return parse_messages(_with_messages(record, messages), origin, root, report)


def parse_caption(
  record: Mapping[str, Any], origin: str, root: str, report: ManifestReport
) -> Sample:
  """A caption as the answer to a request for a description. Raises RecordError."""
  shows_video = any(record.get(key) for key in ("video", "videos"))
  question = f"Describe the {'video' if shows_video else 'image'}."
  caption = next(record[key] for key in CAPTIONS if isinstance(record.get(key), str))
  messages = _messages(question, caption)
  record = {key: value for key, value in record.items() if key != "messages"}
  if "start" in record or "end" in record:
    record["videos"] = [_part(record)]
  return parse_messages(_with_messages(record, messages), origin, root, report)


def _part(record: Mapping[str, Any]) -> dict[str, Any]:
  """The video of a caption that is about a part of it."""
  return {key: record[key] for key in ("video", "start", "end") if key in record}


def _pair_keys(record: Mapping[str, Any]) -> tuple[str, str] | None:
  for keys in PAIRS:
    if all(isinstance(record.get(key), str) for key in keys):
      return keys
  return None


def _messages(question: Any, answer: Any) -> list[dict[str, Any]]:
  return [dict(role="user", content=question), dict(role="assistant", content=answer)]


def _with_messages(record: Mapping[str, Any], messages: list[Any]) -> dict[str, Any]:
  return {**record, "messages": messages}
