# SPDX-License-Identifier: Apache-2.0
"""Records of the data format, and manifest files of them."""

from collections.abc import Sequence
import json
import os
import pathlib
from typing import Any


def question_record(
  question: str = "What is seen?", answer: str = "Bars.", **keys: Any
) -> dict[str, Any]:
  """A record of one question and one answer.

  keys: further keys of the record, such as video="a.mp4".
  """
  turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
  return {"conversations": turns} | keys


def write_manifest(path: str | os.PathLike, records: Sequence[Any]) -> str:
  """Writes records as .json or .jsonl and returns the path.

  The .json is an array with one record per line.
  """
  lines = [json.dumps(record) for record in records]
  if str(path).endswith(".jsonl"):
    text = "\n".join(lines)
  else:
    text = "[\n" + ",\n".join(lines) + "\n]"
  pathlib.Path(path).write_text(text + "\n")
  return str(path)
