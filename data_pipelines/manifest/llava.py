# SPDX-License-Identifier: Apache-2.0
"""Reads manifests as samples; the format of LLaVA-style records.

A record is {"conversations": [{"from": "human", "value": "<image>\\nWhat happens?"}, …]} with
`video`, `image` or `scenes`, or without media; data_pipelines/README.md shows the whole format.
Records of other formats have readers of their own (see shapes.py). A bad record never stops a run:
it is left out and reported with file, line and reason.
"""

from collections.abc import Iterable, Iterator, Mapping
import os
from typing import Any

from data_pipelines.manifest import placement, shapes
from data_pipelines.manifest.conversation import check_learned, record_name
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.llava_media import check_text, media_timelines
from data_pipelines.manifest.media_keys import MEDIA, check_turn_keys, empty_keys
from data_pipelines.manifest.messages import MEDIA_KEYS
from data_pipelines.manifest.options import turns_with_options
from data_pipelines.manifest.reader import (
  BadRecord,
  ManifestError,
  ManifestReport,
  RecordError,
  located_records,
)
from data_pipelines.sample import Sample, Turn

__all__ = [
  "MEDIA",
  "BadRecord",
  "ManifestError",
  "ManifestReport",
  "RecordError",
  "parse_record",
  "read_manifest",
]

TURNS = {"conversations", "messages"}
ROLES = {
  "human": "user",
  "user": "user",
  "gpt": "assistant",
  "assistant": "assistant",
  "system": "system",
}


def read_manifest(
  manifest: str | os.PathLike, root: str | os.PathLike = "", report: ManifestReport | None = None
) -> Iterator[Sample]:
  """The samples of a manifest in its order.

  Media paths are relative to `root`, by default to the manifest's folder. Bad records are added to
  `report`. Raises ManifestError.
  """
  path = os.fspath(manifest)
  folder = os.fspath(root) or os.path.dirname(path)
  report = report or ManifestReport()
  for located in located_records(path):
    try:
      sample = parse_record(located.record, f"{path}:{located.place}", folder, report)
    except RecordError as error:
      report.bad.append(BadRecord(path, located.line, str(error), located.nth))
    else:
      report.samples += 1
      yield sample


def parse_record(
  record: Any, origin: str, root: str = "", report: ManifestReport | None = None
) -> Sample:
  """One record as a Sample.

  Raises RecordError with the reason if it breaks the format.
  """
  if isinstance(record, RecordError):
    raise record
  if not isinstance(record, Mapping):
    raise RecordError(f"is {excerpt(record)}, not an object")
  report = report or ManifestReport()
  read_other = shapes.other_reader(record)
  if read_other is not None:
    return read_other(record, origin, root, report)
  texts = _turn_texts(record, report)
  media = media_timelines(record, root)
  if not media:
    _check_no_media(record, texts)
  turns, timelines = placement.place_media(texts, media, report)
  _check_answers(turns)
  return Sample(
    id=record_name(record, "id") or origin,
    turns=turns,
    media=timelines,
    origin=origin,
    kind=record_name(record, "kind"),
  )


def _turn_texts(record: Mapping[str, Any], report: ManifestReport) -> list[tuple[str, str]]:
  """(role, text) of every turn.

  A first turn by another speaker than the human is dropped, as in LLaVA.
  """
  listed = record.get("conversations")
  if "conversations" not in record:
    raise RecordError(_without_turns(record))
  if not isinstance(listed, list) or not listed:
    raise RecordError(f"has conversations {excerpt(listed)}, which is not a list of turns")
  if record.get("tools"):
    raise RecordError(f'has "tools": {excerpt(record["tools"])}, which is not read')
  turns = _system_turns(record)
  for number, turn in enumerate(listed, 1):
    if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
      raise RecordError(f"has turn {number} {excerpt(turn)} without from and a text as value")
    if str(turn.get("from")) not in ROLES:
      raise RecordError(f"has turn {number} from {excerpt(turn.get('from'))}, not human or gpt")
    check_text(turn["value"], f"turn {number}")
    check_learned(turn, ROLES[turn["from"]], f"turn {number}")
    check_turn_keys(turn, f"turn {number}")
    turns.append((ROLES[turn["from"]], turn["value"]))
  first = _first_after_system(turns)
  if first < len(turns) and turns[first][0] != "user":
    del turns[first]
    report.dropped_turns += 1
  roles = [role for role, _ in turns]
  if "user" not in roles:
    raise RecordError("has no turn from human")
  if "assistant" not in roles:
    raise RecordError("has no turn from gpt")
  return turns_with_options(record, turns)


def _first_after_system(turns: list[tuple[str, str]]) -> int:
  """The number of the first turn after the system turns.

  The count of turns if there is none.
  """
  for number, (role, _) in enumerate(turns):
    if role != "system":
      return number
  return len(turns)


def _system_turns(record: Mapping[str, Any]) -> list[tuple[str, str]]:
  """The system turn of a record with the key `system`."""
  text = record.get("system")
  if not text:
    return []
  if not isinstance(text, str):
    raise RecordError(f"has system {excerpt(text)}, which is not a text")
  check_text(text, "system")
  return [("system", text)]


def _without_turns(record: Mapping[str, Any]) -> str:
  """The error message for an object of no known format."""
  reason = "" if any(map(record.get, MEDIA_KEYS)) else _whole_file(record)
  if reason:
    return reason
  keys = excerpt(", ".join(map(str, record)), 200)
  return (
    "has no conversations, no messages, no question and answer of text, no caption of a medium; "
    f"its keys are {keys if record else 'none'}"
  )


def _whole_file(record: Mapping[str, Any]) -> str:
  """The error message for a whole file, else "".

  It may be records under a key, records by their ids, or a mixture of LLaVA's.
  """
  for key, value in record.items():
    if _is_record(value):
      return (
        f"is not a record: its keys, such as {excerpt(key)}, name records; save these as an array, "
        "each with the name of its medium"
      )
    entry = value[0] if isinstance(value, list) and value else None
    if _is_record(entry):
      return (
        f"is not a record: its key {excerpt(key)} holds {len(value)} records: save that list alone"
      )
    if isinstance(entry, Mapping) and "json_path" in entry:
      return "is a mixture of LLaVA-OneVision: name its manifests in config.data.train"
  return ""


def _is_record(value: Any) -> bool:
  """Whether a value looks like a record of any format."""
  if not isinstance(value, Mapping):
    return False
  return bool(TURNS & value.keys()) or shapes.other_reader(value) is not None


def _check_answers(turns: Iterable[Turn]) -> None:
  for turn in turns:
    if turn.role == "assistant" and not turn.text.strip():
      raise RecordError("has an empty answer")


def _check_no_media(record: Mapping[str, Any], turns: list[tuple[str, str]]) -> None:
  """Checks a record without media for media tags.

  Raises RecordError if it has one.
  """
  keys = empty_keys(record)
  tag = placement.asks_for_media(turns, anywhere=bool(keys))
  if tag and keys:
    values = ", ".join(f"{excerpt(key)} is {excerpt(record[key])}" for key in keys)
    raise RecordError(f"has {tag} but no medium: {values}")
  if tag:
    raise RecordError(f"has {tag} but no medium: it has no video, image or scenes")
