# SPDX-License-Identifier: Apache-2.0
"""Reads LLaVA-style manifests as samples.

A record is {"conversations": [{"from": "human", "value": "<image>\\nWhat happens?"}, …]} with
`video`, `image` or `scenes`, or without media; data_pipelines/README.md shows the whole format. A
bad record never stops a run: it is left out and reported with file, line and reason.
"""

from collections.abc import Iterable, Iterator, Mapping
import os
from typing import Any

from data_pipelines.manifest import placement
from data_pipelines.manifest.excerpts import shown
from data_pipelines.manifest.llava_media import MEDIA, check_text, empty_keys, media
from data_pipelines.manifest.reader import Bad, ManifestError, RecordError, Report, records, select
from data_pipelines.sample import Sample

__all__ = ["MEDIA", "Bad", "ManifestError", "RecordError", "Report", "load", "read", "sample"]

ROLES = {
  "human": "user",
  "user": "user",
  "gpt": "assistant",
  "assistant": "assistant",
  "system": "system",
}


def read(
  manifest: str | os.PathLike, root: str | os.PathLike = "", report: Report | None = None
) -> Iterator[Sample]:
  """The samples of a manifest in its order. Media paths are relative to `root`, by default to the
  manifest's folder. Bad records are added to `report`. Raises ManifestError."""
  return _samples(records(manifest), manifest, root, report or Report())


def load(
  manifest: str | os.PathLike,
  strategy: str = "all",
  root: str | os.PathLike = "",
  seed: int = 0,
  report: Report | None = None,
) -> list[Sample]:
  """The part of a manifest that `strategy` takes, in the manifest's order (see `select`)."""
  rows = records(manifest)
  if strategy != "all":  # All need not be in memory at once.
    rows = list(rows)
    rows = [rows[number] for number in select(len(rows), strategy, seed)]
  return list(_samples(rows, manifest, root, report or Report()))


def _samples(
  rows: Iterable[tuple[int, Any]],
  manifest: str | os.PathLike,
  root: str | os.PathLike,
  report: Report,
) -> Iterator[Sample]:
  folder = os.fspath(root) or os.path.dirname(os.fspath(manifest))
  for line, record in rows:
    try:
      result = sample(record, f"{os.fspath(manifest)}:{line}", folder, report)
    except RecordError as error:
      report.bad.append(Bad(os.fspath(manifest), line, str(error)))
    else:
      report.samples += 1
      yield result


def sample(record: Any, origin: str, root: str = "", report: Report | None = None) -> Sample:
  """One record as a Sample. Raises RecordError with the reason if it breaks the format."""
  if isinstance(record, RecordError):
    raise record
  if not isinstance(record, Mapping):
    raise RecordError(f"is {shown(record)}, not an object")
  report = report or Report()
  spoken = _turns(record, report)
  lanes = media(record, root)
  if not lanes:
    _check_no_media(record, spoken)
  turns, timelines = placement.place(spoken, lanes, report)
  _check_answers([turn.text for turn in turns if turn.role == "assistant"])
  return Sample(
    id=_name(record, "id") or origin,
    turns=turns,
    media=timelines,
    origin=origin,
    kind=_name(record, "kind"),
  )


def _name(record: Mapping[str, Any], key: str) -> str:
  """`id` or `kind` of a record; "" for none. 0 is a name."""
  value = record.get(key)
  text = "" if value in (None, [], {}) else str(value)
  check_text(text, key)
  return text


def _turns(record: Mapping[str, Any], report: Report) -> list[tuple[str, str]]:
  """(role, text) of every turn. A first turn that is not the human's is dropped, as LLaVA does."""
  listed = record.get("conversations")
  if not isinstance(listed, list) or not listed:
    raise RecordError(
      f"has conversations {shown(listed)}, which is no list of turns{_records_inside(record)}"
    )
  turns = []
  for number, turn in enumerate(listed, 1):
    if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
      raise RecordError(f"has turn {number} {shown(turn)} without from and a text as value")
    if str(turn.get("from")) not in ROLES:
      raise RecordError(f"has turn {number} from {shown(turn.get('from'))}, not human or gpt")
    check_text(turn["value"], f"turn {number}")
    turns.append((ROLES[turn["from"]], turn["value"]))
  first = next((i for i, (role, _) in enumerate(turns) if role != "system"), len(turns))
  if first < len(turns) and turns[first][0] != "user":
    del turns[first]
    report.dropped_turns += 1
  for role, speaker in (("user", "human"), ("assistant", "gpt")):
    if not any(r == role for r, _ in turns):
      raise RecordError(f"has no turn from {speaker}")
  return turns


def _records_inside(record: Mapping[str, Any]) -> str:
  """A hint for an object that holds a whole manifest under one of its keys; "" for another."""
  for key, value in record.items():
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
      if "conversations" in value[0]:
        return f"; its key {shown(key)} holds {len(value)} records: save that list alone"
  return ""


def _check_answers(answers: Iterable[str]) -> None:
  if not all(answer.strip() for answer in answers):
    raise RecordError("has an empty answer")


def _check_no_media(record: Mapping[str, Any], turns: list[tuple[str, str]]) -> None:
  """Raises RecordError if a record without media asks about some."""
  keys = empty_keys(record)
  tag = placement.asks_for_media(turns, anywhere=bool(keys))
  if tag and keys:
    values = ", ".join(f"{shown(key)} is {shown(record[key])}" for key in keys)
    raise RecordError(f"has {tag} but no medium: {values}")
  if tag:
    raise RecordError(f"has {tag} but no medium: it has no video, image or scenes")
