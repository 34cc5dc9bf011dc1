# SPDX-License-Identifier: Apache-2.0
"""Reads problems with a solution, and perhaps the reasoning that leads to it, as in Video-R1.

  {"problem": "Who wins?", "options": ["A. Red", "B. Blue"], "data_type": "video", "path": "a.mp4",
   "process": "<think>The red team cheers.</think>", "solution": "<answer>A</answer>"}

With a `process`, the answer is the process and the solution, with their tags. Without one, it is
the content of <answer>. The medium is `path`, whose kind is `data_type`, or under the keys that
records with messages have.
"""

from collections.abc import Mapping
import re
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.messages import MEDIA_KEYS, parse_messages
from data_pipelines.manifest.options import asked_with_options, with_option_lines
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import Sample

_ANSWER = re.compile(r"\s*<answer>(.*)</answer>\s*", re.DOTALL)
_KINDS = ("video", "image")


def has_solution(record: Mapping[str, Any]) -> bool:
  """Whether a record has a problem and a solution."""
  return isinstance(record.get("problem"), str) and isinstance(record.get("solution"), str)


def parse_solution(
  record: Mapping[str, Any], origin: str, root: str, report: ManifestReport
) -> Sample:
  """A problem, and its solution as the answer. Raises RecordError."""
  solution = record["solution"].strip()
  process = record.get("process") or ""
  if not isinstance(process, str):
    raise RecordError(f"has process {excerpt(process)}, which is not a text")
  if process.strip():
    question = with_option_lines(record, record["problem"])
    answer = f"{process.strip()}\n{solution}"
  else:
    match = _ANSWER.fullmatch(solution)
    content = solution if match is None else match[1].strip()
    question, answer = asked_with_options(record, record["problem"], content)
  messages = [dict(role="user", content=question), dict(role="assistant", content=answer)]
  named = {**_with_medium(record), "messages": messages}
  return parse_messages(named, origin, root, report)


def _with_medium(record: Mapping[str, Any]) -> Mapping[str, Any]:
  """A record with its `path` under the key of its kind."""
  path = record.get("path")
  if not path or any(map(record.get, MEDIA_KEYS)):
    return record
  kind = record.get("data_type")
  if kind not in _KINDS:
    raise RecordError(
      f"has path {excerpt(path)} of data_type {excerpt(kind)}, which is neither video nor image"
    )
  return {**record, kind: path}
