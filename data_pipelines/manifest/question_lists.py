# SPDX-License-Identifier: Apache-2.0
"""Reads records with a list of questions, as in VideoChat2-IT and TimeIT.

  {"video": "a.mp4", "QA": [{"i": "Watch the goals.", "q": "Who wins?", "a": "The red team."}]}

`i` is an instruction. It is written before its question, unless the question before has the same.
Without a question, as in sets of captions, it is the question.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.messages import parse_messages
from data_pipelines.manifest.options import asked_with_options
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import Sample

LIST = "QA"


def has_questions(record: Mapping[str, Any]) -> bool:
  """Whether a record lists questions."""
  return isinstance(record.get(LIST), list)


def parse_questions(
  record: Mapping[str, Any], origin: str, root: str, report: ManifestReport
) -> Sample:
  """The questions of a record and their answers, in order. Raises RecordError."""
  messages = []
  previous = ""
  for number, entry in enumerate(record[LIST], 1):
    if not isinstance(entry, Mapping):
      raise RecordError(f"has question {number} {excerpt(entry)}, which is not an object")
    instruction = _text(entry, "i", number)
    question = _text(entry, "q", number)
    if not question:
      question = instruction
    elif instruction and instruction != previous:
      question = f"{instruction}\n{question}"
    if not question:
      raise RecordError(f"has question {number} without a text in q or i")
    previous = instruction
    question, answer = asked_with_options(entry, question, _text(entry, "a", number))
    messages.append(dict(role="user", content=question))
    messages.append(dict(role="assistant", content=answer))
  if not messages:
    raise RecordError(f"has no question in {LIST}")
  return parse_messages({**record, "messages": messages}, origin, root, report)


def _text(entry: Mapping[str, Any], key: str, number: int) -> str:
  """The text of a question's key, "" if it is empty."""
  value = entry.get(key)
  if value is None:
    return ""
  if not isinstance(value, str):
    raise RecordError(f"has question {number} {excerpt(entry)} without texts in q and a")
  return value.strip()
