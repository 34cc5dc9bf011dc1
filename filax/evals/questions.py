# SPDX-License-Identifier: Apache-2.0
"""Finds the questions of a benchmark, and orders them."""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import itertools
import os

from data_pipelines.media import array_record, packed, remote
from data_pipelines.media import open as media_lib
from filax.evals.archives import unpacking_hint
from filax.evals.hub_cache import find_snapshot
from filax.evals.kit import Benchmark, Example, Source
from filax.evals.options import Share

Group = list[Example]  # Questions about the same media.


class MissingMedia(ValueError):
  """Media of a benchmark are missing.

  The message gives their number and the first ones.
  """


def benchmark_source(
  data: str | os.PathLike, name: str, benchmark: Benchmark, root: str = ""
) -> Source:
  """The files of a benchmark.

  If `data` is a cache of Hugging Face, they are those of its snapshot. lmms-eval unpacks media
  beside it, in a folder with the benchmark's name. Raises ValueError for a missing folder.
  """
  folder = os.fspath(data)
  if root and not remote.is_present_folder(root):
    raise ValueError(f"There is no folder {root}. Set --root to the folder of the media.")
  snapshot = find_snapshot(folder, benchmark.publisher) if folder else None
  if snapshot is None:
    return Source(data_folder(folder, name), root)
  unpacked = os.path.join(folder, name)
  if not root and os.path.isdir(unpacked):
    root = unpacked
  return Source(snapshot, root)


def data_folder(data: str | os.PathLike, name: str) -> str:
  """The folder of a benchmark: data/<name> if it exists, else data.

  Raises ValueError if neither is there.
  """
  folder = os.fspath(data)
  if not folder:
    raise ValueError(f"Where are the files of {name}? Set --data to their folder.")
  _, _, short = name.rpartition(":")
  inner = os.path.join(folder, short)
  if remote.is_present_folder(inner):
    return inner
  if not remote.is_present_folder(folder):
    raise ValueError(f"There is no folder {folder}. Set --data to the files of {name}.")
  return folder


def read_questions(benchmark: Benchmark, source: Source, limit: int | None) -> list[Example]:
  """The first `limit` questions, each with an id of its own.

  Raises ValueError if there is none.
  """
  examples = list(itertools.islice(benchmark.read_examples(source), limit))
  if not examples:
    bad = [*map(str, source.report.bad), *source.missing]
    reason = f"; the first reason: {bad[0]}" if bad else "."
    raise ValueError(f"{source.data} holds no question that can be asked{reason}")
  return list(_with_unique_ids(examples))


def _with_unique_ids(examples: Iterable[Example]) -> Iterable[Example]:
  """Appends a number to an id that was there before."""
  seen: set[str] = set()
  newest: dict[str, int] = {}  # Id -> the number that was appended last.
  for example in examples:
    id = example.id
    number = newest.get(id, 1)
    while id in seen:
      number += 1
      id = f"{example.id}#{number}"
    newest[example.id] = number
    seen.add(id)
    yield example if id == example.id else dataclasses.replace(example, id=id)


def media_groups(examples: Sequence[Example], share: Share) -> list[Group]:
  """This process's share of the questions, grouped by their media."""
  groups: dict[tuple, Group] = {}
  for example in examples:
    groups.setdefault(example.media, []).append(example)
  number, count = share
  return list(groups.values())[number::count]


def missing_media(examples: Sequence[Example]) -> list[str]:
  """The media of questions that do not exist."""
  media: dict[str, None] = {}  # In the order of the questions.
  for example in examples:
    for timeline in example.media:
      for scene in timeline:
        media[scene.media] = None
  files = {medium: _file_of(medium) for medium in media}
  remote.states(filter(None, files.values()))  # Folders of buckets are listed as a whole.
  return [medium for medium, file in files.items() if file and not remote.exists(file)]


def missing_files(
  examples: Sequence[Example], files: Callable[[Example], Sequence[str]]
) -> list[str]:
  """The files of the questions' prompts that do not exist."""
  paths: dict[str, None] = {}  # In the order of the questions.
  for example in examples:
    paths |= dict.fromkeys(files(example))
  return [path for path in paths if not remote.exists(path)]


def check_missing(missing: Sequence[str], total: int, root: str) -> None:
  """Raises MissingMedia if there are missing media."""
  if not missing:
    return
  first = ", ".join(missing[:3])
  more = ", …" if len(missing) > 3 else ""
  below = f" below {root}" if root else ""
  raise MissingMedia(
    f"{len(missing)} media of {total} questions are missing{below}: {first}{more}. "
    f"{unpacking_hint(missing[0])}Set --root to their folder, or --allow-missing to ask about "
    "those that are there."
  )


def _file_of(medium: str) -> str:
  """The file that holds a medium.

  "" for a record of an ArrayRecord, which is read with its question: an index may name the file
  differently.
  """
  if array_record.split_name(medium) is not None:
    return ""
  return packed.outer_file(medium) or media_lib.file_path(medium)
