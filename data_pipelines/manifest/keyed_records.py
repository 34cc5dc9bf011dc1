# SPDX-License-Identifier: Apache-2.0
"""Records that are the members of one JSON object, as in ActivityNet Captions and YouCook2.

  {"v_a": {"duration": 82.7, "timestamps": [[0.8, 19.9]], "sentences": ["A woman dances."]}}
  {"database": {"a": {"annotations": [{"segment": [90, 102], "sentence": "spread margarine"}]}}}

The key of a member is the name of its video: it becomes `vid` of the record.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.grounding import is_dense
from data_pipelines.manifest.json_text import LocatedRecord, parse_value
from data_pipelines.manifest.object_members import is_first_member, object_members
from data_pipelines.manifest.report import RecordError
from data_pipelines.manifest.text_window import TextWindow

DATABASE = "database"  # The key of all records in YouCook2's file.


def is_keyed(text: str) -> bool:
  """Whether a file is an object of records of events.

  text: its beginning, with the first member.
  """
  return is_first_member(text, DATABASE, is_dense)


def keyed_records(window: TextWindow) -> Iterator[LocatedRecord]:
  """The members of the object, from the start of the window on."""
  for located in object_members(window, DATABASE):
    if isinstance(located.record, tuple):
      located = located._replace(record=_named(*located.record))
    yield located


def keyed_record(text: str) -> Any:
  """The record in the text of a member. Raises ValueError."""
  ((key, value),) = parse_value("{" + text + "}").items()
  record = _named(key, value)
  if isinstance(record, RecordError):
    raise record
  return record


def _named(key: str, value: Any) -> Any:
  if not isinstance(value, Mapping):
    return RecordError(f"is the member {excerpt(key)}: {excerpt(value)}, not an object")
  return {"vid": key, **value}
