# SPDX-License-Identifier: Apache-2.0
"""Reads records with one question and one answer, or with a caption.

  {"query": "<video>What happens?", "response": "A goal.", "videos": ["a.mp4"], "history": []}
  {"question": "What happens?", "answer": "A goal.", "video": "a.mp4"}
  {"q": "What happens?", "a": "A goal.", "video_id": "a"}
  {"question": "Who wins?", "options": ["Red", "Blue"], "answer": "A", "video": "a.mp4"}
  {"image": "a.jpg", "caption": "A dog."}

`query` and `response` are the keys of ms-swift. Media are shown where `messages` shows them.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.messages import MEDIA_KEYS, parse_messages
from data_pipelines.manifest.named_videos import video_file
from data_pipelines.manifest.options import asked_with_options, has_options
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import Sample

VIDEO_INSTRUCT = ("q", "a")  # VideoInstruct names a video by its `video_id`.
PAIRS = (("query", "response"), ("question", "answer"), VIDEO_INSTRUCT)
CAPTIONS = ("caption", "text")
# Keys of texts that belong to a question in some sets, as in ScienceQA. They are not read.
UNREAD = ("context", "hint", "passage")


def has_pair(record: Mapping[str, Any]) -> bool:
  """Whether a record has a question and an answer under known keys."""
  return _pair_keys(record) is not None


def has_caption(record: Mapping[str, Any]) -> bool:
  """Whether a record has a medium and a caption."""
  return _caption(record) is not None and any(map(record.get, MEDIA_KEYS))


def parse_pair(record: Mapping[str, Any], origin: str, root: str, report: ManifestReport) -> Sample:
  """A question and its answer, after those of `history`. Raises RecordError."""
  keys = _pair_keys(record)
  assert keys is not None
  question_key, answer_key = keys
  history = record.get("history") or []
  if not isinstance(history, list):
    raise RecordError(f"has history {excerpt(history)}, which is not a list of pairs")
  _count_unread(record, record[question_key], report)
  newest = asked_with_options(record, record[question_key], record[answer_key])
  if keys == VIDEO_INSTRUCT and record.get("video_id") and not any(map(record.get, MEDIA_KEYS)):
    record = {**record, "video": video_file(record["video_id"]), "video_id": None}
  messages = []
  for pair in [*history, newest]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
      raise RecordError(f"has history {excerpt(pair)}, which is not a pair of texts")
    question, answer = pair
    messages += _messages(question, answer)
  return parse_messages(_with_messages(record, messages), origin, root, report)


def parse_caption(
  record: Mapping[str, Any], origin: str, root: str, report: ManifestReport
) -> Sample:
  """A request for a description, with the caption as the answer.

  Raises RecordError.
  """
  kind = "image"
  if record.get("video") or record.get("videos"):
    kind = "video"
  messages = _messages(f"Describe the {kind}.", _caption(record))
  return parse_messages(_with_messages(record, messages), origin, root, report)


def _caption(record: Mapping[str, Any]) -> str | None:
  """The first caption of a record."""
  for key in CAPTIONS:
    if isinstance(record.get(key), str):
      return record[key]
  return None


def _pair_keys(record: Mapping[str, Any]) -> tuple[str, str] | None:
  """The keys of a question and its answer.

  With options, any answer is taken: one that names none of them is an error of its own.
  """
  for question, answer in PAIRS:
    is_answer = isinstance(record.get(answer), str)
    if not is_answer and record.get(answer) is not None:
      is_answer = has_options(record)
    if isinstance(record.get(question), str) and is_answer:
      return question, answer
  return None


def _count_unread(record: Mapping[str, Any], question: str, report: ManifestReport) -> None:
  """Counts the texts beside a question that it does not repeat."""
  for key in UNREAD:
    text = record.get(key)
    if isinstance(text, str) and text.strip() and text.strip() not in question:
      report.unread[key] = report.unread.get(key, 0) + 1


def _messages(question: Any, answer: Any) -> list[dict[str, Any]]:
  return [dict(role="user", content=question), dict(role="assistant", content=answer)]


def _with_messages(record: Mapping[str, Any], messages: list[Any]) -> dict[str, Any]:
  return {**record, "messages": messages}
