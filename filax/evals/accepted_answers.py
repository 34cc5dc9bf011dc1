# SPDX-License-Identifier: Apache-2.0
"""Several right answers of one question, as data sets list them.

  {"video": "a.mp4", "question": "Who runs?", "answer": ["a dog", "a puppy"]}
  {"image": "a.jpg", "question": "Which sport?", "answers": [{"answer": "tennis"}, …]}
  {"video": "a.mp4", "caption": ["A dog runs.", "A puppy is running."]}
  {"conversations": […], "references": ["a puppy"]}

The one that is listed most often, or first, is the right answer; the others are its references.
"""

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple

from data_pipelines.manifest.reader import RecordError

# Key of a list -> the key of a single text.
LISTS = dict(
  answer="answer",
  answers="answer",
  response="response",
  a="a",
  caption="caption",
  captions="caption",
)
REFERENCES = "references"


class AcceptedAnswers(NamedTuple):
  """A record with one right answer, and the further ones."""

  record: Any
  references: tuple[str, ...]


def split_accepted(record: Any) -> AcceptedAnswers:
  """Takes further right answers out of a record.

  Raises RecordError for a list with other entries than texts.
  """
  if not isinstance(record, Mapping):
    return AcceptedAnswers(record, ())
  references = _texts(record, REFERENCES) if isinstance(record.get(REFERENCES), list) else []
  for listed, single in LISTS.items():
    if isinstance(record.get(listed), list) and isinstance(record.get(single), list | None):
      first, *further = _most_common_first(_texts(record, listed))
      kept = {key: value for key, value in record.items() if key != listed}
      return AcceptedAnswers(kept | {single: first}, (*further, *references))
  return AcceptedAnswers(record, tuple(references))


def _texts(record: Mapping[str, Any], key: str) -> list[str]:
  """The texts under a key. Raises RecordError."""
  texts = []
  for entry in record[key]:
    value = entry.get("answer") if isinstance(entry, Mapping) else entry
    if not isinstance(value, str | int | float) or not str(value).strip():
      raise RecordError(f"has {key} with {entry!r}, which is not a text")
    texts.append(str(value))
  if not texts:
    raise RecordError(f"has {key} without a text")
  return texts


def _most_common_first(texts: list[str]) -> list[str]:
  counts = collections.Counter(texts)
  return sorted(texts, key=lambda text: -counts[text])
