# SPDX-License-Identifier: Apache-2.0
"""Recognises the format of a record by its keys."""

from collections.abc import Callable, Mapping
from typing import Any

from data_pipelines.manifest.captioned import parse_published, published_shape
from data_pipelines.manifest.grounding import is_grounding, parse_grounding
from data_pipelines.manifest.messages import parse_messages
from data_pipelines.manifest.moviechat import has_film, parse_film
from data_pipelines.manifest.nextqa import has_numbered_options, parse_numbered_options
from data_pipelines.manifest.pairs import has_caption, has_pair, parse_caption, parse_pair
from data_pipelines.manifest.question_lists import has_questions, parse_questions
from data_pipelines.manifest.reasoning import has_solution, parse_solution
from data_pipelines.manifest.report import ManifestReport
from data_pipelines.sample import Sample

RecordReader = Callable[[Mapping[str, Any], str, str, ManifestReport], Sample]


def other_reader(record: Mapping[str, Any]) -> RecordReader | None:
  """The reader of a record that is not LLaVA's.

  It is None for records of LLaVA and for unknown records.
  """
  conversations = record.get("conversations")
  if conversations not in (None, []):
    return parse_messages if _are_messages(conversations) else None
  if record.get("messages") is not None:
    return parse_messages
  if has_questions(record):
    return parse_questions
  if has_film(record):
    return parse_film
  if has_numbered_options(record):
    return parse_numbered_options
  if has_pair(record):  # Times beside it may be those of the evidence for its answer.
    return parse_pair
  if published_shape(record) is not None:
    return parse_published
  if is_grounding(record):
    return parse_grounding
  if has_solution(record):
    return parse_solution
  if has_caption(record):
    return parse_caption
  return None


def _are_messages(turns: Any) -> bool:
  """Whether turns are {"role", "content"} instead of {"from", "value"}."""
  if not isinstance(turns, list) or not isinstance(turns[0], Mapping):
    return False
  return {"role", "content"} <= turns[0].keys() and "from" not in turns[0]
