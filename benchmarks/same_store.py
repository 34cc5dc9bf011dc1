# SPDX-License-Identifier: Apache-2.0
"""A recording on disk, and the comparison of two.

A fact is a text with a name such as "hlo/vcf_toy": facts/hlo/vcf_toy.gz holds the text,
digests.json a sha256 of each. Two recordings are equal if all facts are. Facts below "code/" (the
Python files of exports) may differ; a difference is only noted.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import gzip
import hashlib
import itertools
import json
import pathlib

NOTED = "code"
_SHOWN = 160  # Characters of a line that differs.


class Recording:
  """The facts below a folder."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self._index = folder / "digests.json"

  def digests(self) -> dict[str, str]:
    """Name of a fact -> sha256 of its text."""
    return json.loads(self._index.read_text()) if self._index.exists() else {}

  def add_fact(self, name: str, text: str) -> None:
    """Adds a fact, or replaces it."""
    path = self._path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=6, mtime=0))
    digests = self.digests()
    digests[name] = hashlib.sha256(text.encode()).hexdigest()
    self._index.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")

  def read(self, name: str) -> str:
    return gzip.decompress(self._path(name).read_bytes()).decode()

  def forget(self, part: str) -> None:
    """Removes the facts of a part."""
    digests = self.digests()
    for name in list(digests):
      if name.startswith(f"{part}/"):
        self._path(name).unlink()
        del digests[name]
    self._index.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")

  def _path(self, name: str) -> pathlib.Path:
    return self.folder / "facts" / f"{name}.gz"


@dataclasses.dataclass(frozen=True)
class Difference:
  """A fact that differs between two recordings.

  where: the first line that differs.
  """

  name: str
  where: str

  @property
  def part(self) -> str:
    return self.name.partition("/")[0]


def compare(before: Recording, after: Recording) -> tuple[dict[str, int], list[Difference]]:
  """Counts equal facts and collects the differences.

  Returns (part -> number of equal facts, differences), for the parts that both recordings have.
  Raises ValueError if they share no part.
  """
  old = before.digests()
  new = after.digests()
  shared = parts(old) & parts(new)
  if not shared:
    raise ValueError(f"{before.folder} and {after.folder} share no recorded part.")
  equal = dict.fromkeys(sorted(shared), 0)
  differences = []
  for name in sorted(old.keys() | new.keys()):
    part = name.partition("/")[0]
    if part not in shared:
      continue
    if name not in new:
      differences.append(Difference(name, f"only in {before.folder}"))
    elif name not in old:
      differences.append(Difference(name, f"only in {after.folder}"))
    elif old[name] != new[name]:
      where = first_difference(before.read(name), after.read(name))
      differences.append(Difference(name, where))
    else:
      equal[part] += 1
  return equal, differences


def parts(digests: Mapping[str, str]) -> set[str]:
  return {name.partition("/")[0] for name in digests}


def first_difference(before: str, after: str) -> str:
  """The first line that differs between two texts.

  It begins shortly before the place of the difference.
  """
  pairs = itertools.zip_longest(before.splitlines(), after.splitlines())
  for number, (old, new) in enumerate(pairs, 1):
    if old != new:
      return f"line {number}:\n    - {_excerpt(old, new)}\n    + {_excerpt(new, old)}"
  return "only in how lines end"


def _excerpt(line: str | None, other: str | None) -> str:
  if line is None:
    return "(no such line)"
  column = 0
  for character, theirs in zip(line, other or "", strict=False):
    if character != theirs:
      break
    column += 1
  start = max(0, column - _SHOWN // 2)
  before = "…" if start else ""
  return before + line[start : start + _SHOWN]


def table(equal: Mapping[str, int], differences: list[Difference]) -> Iterator[str]:
  """The lines of a comparison: one for each part, then all differences."""
  yield f"{'part':<12} {'equal':>6} {'different':>10}"
  for part, count in equal.items():
    different = sum(difference.part == part for difference in differences)
    note = "  (may differ)" if part == NOTED else ""
    yield f"{part:<12} {count:>6} {different:>10}{note}"
  for difference in differences:
    yield f"{difference.name}: {difference.where}"


def fails(differences: list[Difference]) -> bool:
  """Whether one of the differences is more than a note."""
  return any(difference.part != NOTED for difference in differences)
