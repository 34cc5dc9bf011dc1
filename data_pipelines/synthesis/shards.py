# SPDX-License-Identifier: Apache-2.0
"""Sharded .jsonl files with a recipe.

They are written in order, and resumed after a kill.

A shard is written as `NAME.part`, synced and renamed; `done/NAME.json` marks it with its sha256.
recipe.json holds what decides the bytes (inputs, options) and, when all is written, the shards and
counts. An output folder is new, empty, or of the same recipe.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any, BinaryIO

from data_pipelines.chunk_pool import ChunkPool
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.mapped import one_builder
from filax import files

_LINES = json.JSONEncoder(
  ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
)
RECIPE = "recipe.json"
_DONE = "done"  # The folder of completion marks.


@dataclasses.dataclass(frozen=True)
class ShardFacts:
  """A finished shard."""

  records: int
  bytes: int
  sha256: str


class OutputFolder:
  """A folder of shards with its recipe. Make it with `open_output`."""

  def __init__(self, path: pathlib.Path, recipe: Mapping[str, Any]):
    self.path = path
    self.recipe = recipe
    self.finished: dict[str, ShardFacts] = {}  # By file name.
    self.is_complete = False
    self._pinned: Mapping[str, Any] = {}

  def pin(self, **facts: Any) -> None:
    """Records facts that decide the bytes and are not in the recipe.

    Such as durations that were measured. Raises ValueError if finished shards were made from
    others.
    """
    facts = json.loads(json.dumps(facts))
    for name, fact in facts.items():
      before = self._pinned.get(name)
      if self.finished and before != fact:
        raise ValueError(
          f"{self.path} holds shards made from other {name} ({excerpt(before)}; now "
          f"{excerpt(fact)}): files changed meanwhile. Choose a new folder, or add --force."
        )
    self._pinned = facts
    self.write_recipe(complete=False)

  def write_recipe(self, **results: Any) -> None:
    """Writes recipe.json."""
    content = {"recipe": self.recipe, "pinned": self._pinned, **results}
    _write_json(self.path / RECIPE, content)

  @contextlib.contextmanager
  def shard(self, name: str) -> Iterator["ShardFile"]:
    """Opens a shard that appears, with its mark, after the block."""
    with open_part(self.path, name) as shard:
      yield shard
    self.show_part(name, shard.facts())

  def show_part(self, name: str, facts: ShardFacts) -> None:
    """Makes a written and synced part the shard, with its mark."""
    os.replace(self.path / f"{name}.part", self.path / name)
    _write_json(self.path / _DONE / f"{name}.json", dataclasses.asdict(facts))
    self.finished[name] = facts

  def mark_complete(self, **results: Any) -> None:
    """Marks the output as complete.

    results: what recipe.json says beside the recipe and the shards, such as counts.
    """
    shards = {name: dataclasses.asdict(self.finished[name]) for name in sorted(self.finished)}
    self.write_recipe(complete=True, shards=shards, **results)
    for mark in (self.path / _DONE).glob("*.json"):
      mark.unlink()
    with contextlib.suppress(OSError):
      (self.path / _DONE).rmdir()
    self.is_complete = True


@contextlib.contextmanager
def open_part(folder: str | os.PathLike, name: str) -> Iterator["ShardFile"]:
  """Opens the part of a shard, which is synced after the block."""
  with open(os.path.join(folder, f"{name}.part"), "wb") as file:
    shard = ShardFile(file)
    yield shard
    file.flush()
    os.fsync(file.fileno())


class ShardFile:
  """An open shard."""

  def __init__(self, file: BinaryIO):
    self._file = file
    self._digest = hashlib.sha256()
    self._records = 0
    self._bytes = 0

  def write(self, lines: bytes, records: int = 1) -> None:
    """Appends whole lines (see `json_line`) that hold `records` records."""
    self._file.write(lines)
    self._digest.update(lines)
    self._records += records
    self._bytes += len(lines)

  def facts(self) -> ShardFacts:
    """What was written so far."""
    return ShardFacts(self._records, self._bytes, self._digest.hexdigest())


def json_line(record: Mapping[str, Any]) -> bytes:
  """The line of a record; equal records give equal bytes."""
  return _LINES.encode(record).encode() + b"\n"


def shard_names(split: str, count: int) -> list[str]:
  """The files of a split: "train-00000-of-00016.jsonl", …"""
  return [f"{split}-{number:05d}-of-{count:05d}.jsonl" for number in range(count)]


def input_facts(paths: Iterable[str | os.PathLike]) -> list[dict[str, Any]]:
  """Name, size and sha256 of input files, for a recipe.

  Sorted, and without folders: moved and reordered inputs are the same inputs. Raises OSError.
  """
  with ThreadPoolExecutor() as threads:
    return sorted(threads.map(_file_facts, paths), key=_name_and_digest)


def _file_facts(path: str | os.PathLike) -> dict[str, Any]:
  size, sha256 = file_digest(path)
  return {"name": os.path.basename(path), "bytes": size, "sha256": sha256}


def file_digest(path: str | os.PathLike) -> tuple[int, str]:
  """(bytes, sha256) of a file."""
  with open(path, "rb") as file:
    digest = hashlib.file_digest(file, "sha256")
    return file.tell(), digest.hexdigest()


def _name_and_digest(facts: Mapping[str, Any]) -> tuple[str, str]:
  return facts["name"], facts["sha256"]


@contextlib.contextmanager
def open_output(
  folder: str | os.PathLike, recipe: Mapping[str, Any], force: bool = False
) -> Iterator[OutputFolder]:
  """Opens a folder for the output of a recipe.

  One process at a time has it; others wait.

  recipe: what decides the bytes, for JSON. Finished shards of the same recipe are kept. force:
  write all again, also over another output; files that no output wrote stay. Raises ValueError for
  a folder that holds anything else.
  """
  path = pathlib.Path(folder)
  if path.exists() and not path.is_dir():
    raise ValueError(f"--out {path} is a file. Name a folder.")
  wanted = json.loads(json.dumps(recipe))  # As it is read back: lists for tuples.
  with one_builder(path, f"writes {path}"):
    path.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(path)
    present = _read_json(path / RECIPE)
    output = OutputFolder(path, wanted)
    if force:
      _remove_output(path, present)
    elif present:
      _check_same(path, present.get("recipe"), wanted)
      _take_over(output, present)
    elif any(path.iterdir()):
      raise ValueError(
        f"--out {path} holds files but no {RECIPE}: nothing is overwritten. Choose a new folder, "
        "or add --force."
      )
    if not output.is_complete:
      _begin(output)
    yield output


def _begin(output: OutputFolder) -> None:
  """Writes the recipe, and the marks of the shards that are finished."""
  output.write_recipe(complete=False)
  for name, facts in output.finished.items():
    _write_json(output.path / _DONE / f"{name}.json", dataclasses.asdict(facts))


def _check_same(path: pathlib.Path, present: Any, wanted: Mapping[str, Any]) -> None:
  """Raises ValueError, with the first difference, for another recipe."""
  if present == wanted:
    return
  before = present if isinstance(present, Mapping) else {}
  for key in sorted(set(before) | set(wanted)):
    if before.get(key) != wanted.get(key):
      raise ValueError(
        f"--out {path} holds the output of another recipe: {key} is "
        f"{excerpt(before.get(key), 200)} there and {excerpt(wanted.get(key), 200)} here. Choose a "
        "new folder, or add --force."
      )


def _take_over(output: OutputFolder, present: Mapping[str, Any]) -> None:
  """Takes over the finished shards that are still there.

  Raises ValueError for one that has another size.
  """
  output._pinned = present.get("pinned", {})
  shards = dict(present.get("shards", {}))
  for mark in sorted((output.path / _DONE).glob("*.json")):
    shards[mark.name.removesuffix(".json")] = _read_json(mark)
  for name, facts in shards.items():
    path = output.path / name
    if not facts or not path.exists():
      continue
    if path.stat().st_size != facts["bytes"]:
      raise ValueError(
        f"{path} was changed: it has {path.stat().st_size} bytes, and {facts['bytes']} were "
        "written. Choose a new folder, or add --force."
      )
    output.finished[name] = ShardFacts(**facts)
  is_whole = len(output.finished) == len(shards)
  output.is_complete = bool(present.get("complete")) and is_whole


def _remove_output(path: pathlib.Path, present: Mapping[str, Any]) -> None:
  """Removes what an earlier output wrote."""
  names = list(present.get("shards", {}))
  for mark in (path / _DONE).glob("*.json"):
    names.append(mark.name.removesuffix(".json"))
    mark.unlink()
  for name in names:
    if pathlib.PurePath(name).name == name:  # Not a path: recipe.json may be anybody's.
      (path / name).unlink(missing_ok=True)
  for part in path.glob("*.jsonl.part"):
    part.unlink()


def write_shards(
  output: OutputFolder,
  shards: Mapping[str, Sequence[Any]],
  function: Callable[[Any], tuple[bytes, int]],
  processes: int,
) -> None:
  """Writes shards whose chunks a function turns into lines, in order.

  shards: file name -> chunks. function: picklable; chunk -> (lines, records). Finished shards are
  skipped. The bytes are the same for any number of processes.
  """
  waiting = {name: chunks for name, chunks in shards.items() if name not in output.finished}
  writer = _PartWriter(os.fspath(output.path), function)
  with ChunkPool(writer, min(processes, len(waiting))) as pool:
    # Chunks may be made as they are asked for: those of few shards are in memory at a time.
    jobs = ((name, list(chunks)) for name, chunks in waiting.items())
    for name, facts in zip(waiting, pool.map(jobs), strict=True):
      output.show_part(name, facts)


@dataclasses.dataclass(frozen=True)
class _PartWriter:
  """Writes the part of a shard from its name and chunks. Picklable."""

  folder: str
  function: Callable[[Any], tuple[bytes, int]]

  def __call__(self, job: tuple[str, Sequence[Any]]) -> ShardFacts:
    name, chunks = job
    with open_part(self.folder, name) as shard:
      for chunk in chunks:
        lines, records = self.function(chunk)
        shard.write(lines, records)
    return shard.facts()


def write_drawn_shards(
  output: OutputFolder, names: Sequence[str], lines: Iterable[tuple[int, bytes]]
) -> None:
  """Writes a stream of (number of the shard, line).

  All shards are open, and appear together at the end. If all are finished, nothing is read.
  """
  if all(name in output.finished for name in names):
    return
  with contextlib.ExitStack() as stack:
    shards = [stack.enter_context(output.shard(name)) for name in names]
    for number, line in lines:
      shards[number].write(line)


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  with files.write_atomically(path) as file:
    file.write(json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a file; an empty one for none.

  Raises ValueError for a file that is not a JSON object.
  """
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return {}
  except (OSError, ValueError) as error:
    raise ValueError(f"{path} cannot be read ({error}). Choose a new folder.") from error
  if not isinstance(content, dict):
    raise ValueError(f"{path} is not a recipe. Choose a new folder.")
  return content
