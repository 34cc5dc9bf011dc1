# SPDX-License-Identifier: Apache-2.0
"""Manifests named by a pattern, such as `shards/train-*.jsonl`."""

from collections.abc import Iterable, Iterator, Sequence
import glob
import os
import re

from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.report import ManifestError

_WILD = frozenset("*?")  # Brackets are ordinary characters: names of folders hold them.
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(.*)")  # train-00000-of-00064.jsonl


def listed_mixture(mixture: Iterable[tuple[str | os.PathLike, str]]) -> tuple[tuple[str, str], ...]:
  """config.data.train with the files of each pattern in its place.

  Returns (manifest, strategy) pairs. The files stand in the order of their names, so every host
  lists them alike. A strategy counts the records of each file. Raises ManifestError for a pattern
  that fits no file, and for a number of records (first:N, end:N, random:N) of several files.
  """
  entries: list[tuple[str, str]] = []
  for manifest, strategy in mixture:
    paths = manifest_paths(manifest)
    if len(paths) > 1 and not _is_share(strategy):
      raise ManifestError(
        f"{one_line(os.fspath(manifest))} in config.data.train fits {len(paths)} files, and "
        f"{strategy} would take that number of each. Use a percentage, such as first:10%, or name "
        "the files."
      )
    entries.extend((path, strategy) for path in paths)
  return tuple(entries)


def manifest_paths(manifest: str | os.PathLike) -> list[str]:
  """The files of a manifest's name or pattern, ordered by name.

  A name that is no pattern stands for itself. Raises ManifestError for a pattern that fits no file
  or that is an address, and if one of the shards train-00000-of-00064.jsonl … is missing.
  """
  name = os.fspath(manifest)
  paths = fitting_files(name)
  if not paths:
    raise ManifestError(f"No file fits the pattern {one_line(name)}.")
  missing = next(missing_shards(name, paths), None)
  if missing is not None:
    raise ManifestError(
      f"{one_line(name)} fits {len(paths)} files, but {one_line(missing)} is missing. If you want "
      "a part, name its files."
    )
  return paths


def fitting_files(name: str) -> list[str]:
  """The files that fit a pattern, ordered by name.

  A name without * and ?, and one that exists as it is, stands for itself. Raises ManifestError for
  a pattern that is an address.
  """
  if _WILD.isdisjoint(name) or os.path.lexists(name):
    return [name]
  if "://" in name:
    raise ManifestError(
      f"{one_line(name)} is a pattern in a bucket. Name its files, or use a pattern of local files."
    )
  return sorted(glob.glob(name.replace("[", "[[]")))


def missing_shards(pattern: str, paths: Sequence[str]) -> Iterator[str]:
  """The shards that are not among the files of a pattern.

  Shards are train-00000-of-00064.jsonl and so on, numbered from 0 or from 1. A pattern that chooses
  among the numbers misses none.
  """
  start = os.path.basename(pattern)
  present = set(paths)
  checked = set()
  for path in paths:
    folder, name = os.path.split(path)
    shard = _SHARD.fullmatch(name)
    if not shard or not start.startswith(("*", f"{shard[1]}-*")):
      continue
    before, number, total, after = shard.groups()
    if (folder, before, total, after) in checked:
      continue
    checked.add((folder, before, total, after))
    last = f"{int(total):0{len(number)}}"
    first = int(_shard_path(folder, before, last, total, after) in present)
    for other in range(first, first + int(total)):
      expected = _shard_path(folder, before, f"{other:0{len(number)}}", total, after)
      if expected not in present:
        yield expected


def _shard_path(folder: str, before: str, number: str, total: str, after: str) -> str:
  return os.path.join(folder, f"{before}-{number}-of-{total}{after}")


def _is_share(strategy: str) -> bool:
  return strategy == "all" or strategy.endswith("%")
