# SPDX-License-Identifier: Apache-2.0
"""Reads questions whose options are numbered from 0, as in the tables of NExT-QA.

  {"video": 4010069381, "question": "why did the boy sit down", "answer": 1, "a0": "to eat",
   "a1": "to rest", "a2": "to read"}

The answer is the number of the right option, or its text. A video without an extension is the .mp4
file of that name.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.named_videos import video_file
from data_pipelines.manifest.pairs import parse_pair
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import Sample
from data_pipelines.text.choices import LETTERS


def has_numbered_options(record: Mapping[str, Any]) -> bool:
  """Whether a record has a question with the options a0 and a1."""
  return all(_is_filled(record.get(key)) for key in ("question", "answer", "a0", "a1"))


def parse_numbered_options(
  record: Mapping[str, Any], origin: str, root: str, report: ManifestReport
) -> Sample:
  """A question with its options, answered by a letter. Raises RecordError."""
  options: list[str] = []
  while _is_filled(record.get(f"a{len(options)}")):
    options.append(str(record[f"a{len(options)}"]).strip())
  rest = {key: value for key, value in record.items() if not _is_number_of_option(key)}
  if len(rest) + len(options) < len(record):
    missing = f"a{len(options)}"
    raise RecordError(f"has further options than {missing}, which is empty or missing")
  rest["question"] = str(record["question"])
  rest["options"] = options
  rest["answer"] = _letter(record["answer"], options)
  if rest.get("video"):
    rest["video"] = video_file(rest["video"])
  return parse_pair(rest, origin, root, report)


def _is_filled(value: Any) -> bool:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return is_number or (isinstance(value, str) and bool(value.strip()))


def _is_number_of_option(key: str) -> bool:
  return key[:1] == "a" and key[1:].isdigit()


def _letter(answer: Any, options: list[str]) -> str:
  """The letter of the right option.

  A number counts from 0, as the keys do. Raises RecordError for an answer that names none, or
  several.
  """
  text = str(int(answer)) if isinstance(answer, float) and answer.is_integer() else str(answer)
  named = {number for number, option in enumerate(options) if option == text.strip()}
  if text.strip().isdecimal():
    named.add(int(text))
  if len(named) != 1 or not named <= set(range(min(len(options), len(LETTERS)))):
    raise RecordError(
      f"has the answer {excerpt(answer)}, which names none, or several, of its options a0 to "
      f"a{len(options) - 1}"
    )
  return LETTERS[named.pop()]
