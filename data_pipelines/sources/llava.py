# SPDX-License-Identifier: Apache-2.0
"""Reads LLaVA-style manifests as samples.

A record is {"conversations": [{"from": "human", "value": "<image>\\nWhat happens?"}, …]} with
`video`, `image` or `scenes`, or without media; data_pipelines/README.md shows the whole format. A
bad record never stops a run: it is left out and reported with file, line and reason.
"""

from collections.abc import Iterator, Mapping
import json
import os
from typing import Any

from data_pipelines.records import IMAGE, Sample, Scene, Timeline, Turn
from data_pipelines.sources.manifests import (
  Bad,
  ManifestError,
  RecordError,
  Report,
  records,
  select,
)

__all__ = ["Bad", "ManifestError", "RecordError", "Report", "load", "read", "sample"]

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
         "system": "system"}
MEDIA = ("image", "video", "scenes")


def read(manifest: str | os.PathLike, root: str | os.PathLike = "",
         report: Report | None = None) -> Iterator[Sample]:
  """The samples of a manifest in its order. Media paths are relative to `root`, by default to the
  manifest's folder. Bad records are added to `report`. Raises ManifestError."""
  return _samples(records(manifest), manifest, root, report or Report())


def load(manifest: str | os.PathLike, strategy: str = "all", root: str | os.PathLike = "",
         seed: int = 0, report: Report | None = None) -> list[Sample]:
  """The part of a manifest that `strategy` takes, in the manifest's order (see `select`)."""
  rows = list(records(manifest))
  chosen = (rows[i] for i in select(len(rows), strategy, seed))
  return list(_samples(chosen, manifest, root, report or Report()))


def _samples(rows, manifest, root, report: Report) -> Iterator[Sample]:
  folder = os.fspath(root) or os.path.dirname(os.fspath(manifest))
  for line, record in rows:
    try:
      found = sample(record, f"{os.fspath(manifest)}:{line}", folder, report)
    except RecordError as error:
      report.bad.append(Bad(os.fspath(manifest), line, str(error)))
    else:
      report.samples += 1
      yield found


def sample(record: Any, origin: str, root: str = "", report: Report | None = None) -> Sample:
  """One record as a Sample. Raises RecordError with the reason if it breaks the format."""
  if isinstance(record, RecordError):
    raise record
  if not isinstance(record, Mapping):
    raise RecordError(f"is {_show(record)}, not an object")
  report = report or Report()
  turns = _turns(record.get("conversations"), report)
  media = _media(record, root)
  return Sample(
    id=str(record.get("id", origin)), turns=_placed(turns, len(media), report), media=media,
    origin=origin, kind=str(record.get("kind") or ""))


def _turns(said: Any, report: Report) -> list[tuple[str, str]]:
  """(role, text) of every turn. A first turn that is not the human's is dropped, as LLaVA does."""
  if not isinstance(said, list) or not said:
    raise RecordError(f"has conversations {_show(said)}, which is no list of turns")
  turns = []
  for number, turn in enumerate(said, 1):
    if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
      raise RecordError(f"has turn {number} {_show(turn)} without from and a text as value")
    if str(turn.get("from")) not in ROLES:
      raise RecordError(f"has turn {number} from {_show(turn.get('from'))}, not human or gpt")
    _check_text(turn["value"], f"turn {number}")
    turns.append((ROLES[turn["from"]], turn["value"]))
  first = next((i for i, (role, _) in enumerate(turns) if role != "system"), len(turns))
  if first < len(turns) and turns[first][0] != "user":
    del turns[first]
    report.dropped_turns += 1
  for role, speaker in (("user", "human"), ("assistant", "gpt")):
    if not any(r == role for r, _ in turns):
      raise RecordError(f"has no turn from {speaker}")
  if any(role == "assistant" and not text.strip() for role, text in turns):
    raise RecordError("has an empty answer")
  return turns


def _check_text(text: str, where: str):
  try:
    text.encode()
  except UnicodeEncodeError:
    raise RecordError(f"has {where} that is not UTF-8") from None


def _media(record: Mapping, root: str) -> tuple[Timeline, ...]:
  """The timelines of a record, one for each <image>."""
  given = [key for key in MEDIA if record.get(key) not in (None, "", [])]
  if len(given) > 1:
    raise RecordError(f"has {' and '.join(given)}; use one of them (scenes can mix kinds)")
  if not given:
    return ()
  key, value = given[0], record[given[0]]
  if key == "scenes":
    groups = value if isinstance(value, list) and isinstance(value[0], list) else [value]
    return tuple(_timeline(group, root) for group in groups)
  paths = value if isinstance(value, list) else [value]
  if key == "image":
    return tuple((Scene(_path(path, root), "image"),) for path in paths)
  starts, ends = (_spread(record.get(k), len(paths), k) for k in ("start", "end"))
  return tuple(
    (_scene(path, root, t0=_number(t0 or 0, "start"), t1=_number(t1, "end")),)
    for path, t0, t1 in zip(paths, starts, ends, strict=True))


def _spread(value: Any, count: int, key: str) -> list:
  """`start` or `end` of each video: one for a single video, else a list of as many."""
  values = value if isinstance(value, list) else [value] * (count if value is None else 1)
  if len(values) != count:
    raise RecordError(f"has {count} videos but {len(values)} {key}")
  return values


def _timeline(group: Any, root: str) -> Timeline:
  if not isinstance(group, list) or not group:
    raise RecordError(f"has scenes {_show(group)}, which is no list of scenes")
  timeline, end = [], 0.0
  for entry in group:
    if not isinstance(entry, Mapping):
      raise RecordError(f"has the scene {_show(entry)}, which is no object")
    at = _number(entry.get("at", end), "at")
    if at is None:
      raise RecordError("has a scene without at after one without t1")
    scene = _scene(
      entry.get("media"), root, kind=entry.get("kind", "video"), at=at,
      t0=_number(entry.get("t0", 0), "t0"), t1=_number(entry.get("t1"), "t1"))
    if scene.kind == "image" and len(group) > 1:
      raise RecordError("has an image among scenes; inside a video it is a still")
    timeline.append(scene)
    end = None if scene.t1 is None else at + scene.t1 - scene.t0
  return tuple(timeline)


def _scene(path: Any, root: str, *, kind: str = "video", t0: float = 0.0, t1: float | None = None,
           at: float = 0.0) -> Scene:
  if kind not in ("video", "still", "image"):
    raise RecordError(f"has a scene of kind {_show(kind)}, not video, still or image")
  if t0 is None or t0 < 0 or at < 0:
    raise RecordError("has a time before 0")
  if t1 is not None and t1 <= t0:
    raise RecordError(f"has a scene from {t0:g} to {t1:g} seconds, which ends before it begins")
  if kind == "still" and t1 is None:
    raise RecordError("has a still without t1, so without a length")
  return Scene(_path(path, root), kind, t0, t1, at)


def _number(value: Any, key: str) -> float | None:
  if value is None:
    return None
  known = isinstance(value, int | float) and not isinstance(value, bool)
  if not known or not abs(value) < 1e9:  # Nor NaN nor infinity.
    raise RecordError(f"has {key} {_show(value)}, which is no number of seconds")
  return float(value)


def _path(value: Any, root: str) -> str:
  if not isinstance(value, str) or not value:
    raise RecordError(f"names a medium by {_show(value)}, which is no path")
  _check_text(value, "a path")
  return os.path.join(root, value)


def _placed(turns: list[tuple[str, str]], media: int, report: Report) -> tuple[Turn, ...]:
  """Puts media in place of the first `media` <image> of the human's turns."""
  found = sum(text.count(IMAGE) for role, text in turns if role == "user")
  if media and not found:
    first = next(i for i, (role, _) in enumerate(turns) if role == "user")
    turns[first] = "user", f"{IMAGE}\n" * media + turns[first][1]
    report.prepended += 1
  elif found < media:
    raise RecordError(f"has {media} media but {found} {IMAGE}")
  report.surplus += bool(found > media)
  placed, shown = [], 0
  for role, text in turns:
    count = min(text.count(IMAGE), media - shown) if role == "user" else 0
    placed.append(Turn(role, _parts(text, shown, count)))
    shown += count
  return tuple(placed)


def _parts(text: str, shown: int, count: int) -> tuple[str | int, ...]:
  """Splits a turn at its first `count` <image>; the first of them shows medium `shown`."""
  if count == 1 == text.count(IMAGE) and not text.startswith(IMAGE):
    text = f"{IMAGE}\n{text.replace(IMAGE, '').strip()}".strip()  # LLaVA's rule: to the front.
  pieces = text.split(IMAGE, count)
  parts = [pieces[0]]
  for number, piece in enumerate(pieces[1:]):
    parts += [shown + number, piece]
  return tuple(part for part in parts if part != "")


def _show(value: Any) -> str:
  """A value for a message, cut to a readable length."""
  text = json.dumps(value, default=str)
  return text if len(text) <= 60 else text[:57] + "..."
