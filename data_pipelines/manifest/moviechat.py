# SPDX-License-Identifier: Apache-2.0
"""Reads the files of MovieChat-1K: questions about a whole film, and its caption.

  {"info": {"video_path": "1.mp4", "fps": 24}, "caption": "A man …",
   "global": [{"question": "When is it?", "answer": "At night."}],
   "breakpoint": [{"time": 3600, "question": "What is he doing?", "answer": "He reads."}]}

The caption is asked for last, because it may answer the questions. Questions about a moment
(`breakpoint`) are not read.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.messages import parse_messages
from data_pipelines.manifest.named_videos import video_file
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import Sample

QUESTIONS = "global"
MOMENTS = "breakpoint"


def has_film(record: Mapping[str, Any]) -> bool:
  """Whether a record has questions about a whole film."""
  info = record.get("info")
  return isinstance(info, Mapping) and "video_path" in info and QUESTIONS in record


def parse_film(record: Mapping[str, Any], origin: str, root: str, report: ManifestReport) -> Sample:
  """The questions about a film and its caption. Raises RecordError."""
  listed = record[QUESTIONS]
  if not isinstance(listed, list):
    raise RecordError(f"has {QUESTIONS} {excerpt(listed)}, which is not a list of questions")
  messages = []
  for number, entry in enumerate(listed, 1):
    question = entry.get("question") if isinstance(entry, Mapping) else None
    answer = entry.get("answer") if isinstance(entry, Mapping) else None
    if not isinstance(question, str) or not isinstance(answer, str):
      raise RecordError(f"has question {number} {excerpt(entry)} without a question and an answer")
    messages += [dict(role="user", content=question), dict(role="assistant", content=answer)]
  caption = record.get("caption")
  if isinstance(caption, str) and caption.strip():
    messages.append(dict(role="user", content="Describe the video."))
    messages.append(dict(role="assistant", content=caption))
  if record.get(MOMENTS):
    report.unread[MOMENTS] = report.unread.get(MOMENTS, 0) + 1
  video = video_file(record["info"]["video_path"])
  asked = {"id": record.get("id"), "video": video, "messages": messages}
  return parse_messages(asked, origin, root, report)
