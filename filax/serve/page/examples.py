# SPDX-License-Identifier: Apache-2.0
"""Example questions of the demo's held-out videos, beside the checkpoint's run folder."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

MOST = 6
CORPUS = "corpus"
MANIFEST = "held_out.json"
PARENTS = 3  # A checkpoint is <demo>/stage2, or <demo>/stage2/checkpoints/<step>.


@dataclasses.dataclass(frozen=True)
class PageExample:
  """A question about a video of the demo."""

  path: pathlib.Path
  question: str

  @property
  def file_name(self) -> str:
    """The file's name."""
    return self.path.name


def find_examples(checkpoint: str) -> list[PageExample]:
  """Questions about different videos of the demo; [] without a corpus.

  The corpus is looked for in the folders above the checkpoint.
  """
  if not checkpoint or "://" in checkpoint:
    return []
  folder = pathlib.Path(checkpoint).absolute()
  for parent in list(folder.parents)[:PARENTS]:
    corpus = parent / CORPUS
    if (corpus / MANIFEST).is_file():
      return _read_examples(corpus)
  return []


def _read_examples(corpus: pathlib.Path) -> list[PageExample]:
  """The first question of each kind that is asked about another video."""
  try:
    records = json.loads((corpus / MANIFEST).read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return []
  examples: list[PageExample] = []
  paths = set()
  for record in _by_kind(records):
    example = _example(corpus, record)
    if example is None or example.path in paths:
      continue
    paths.add(example.path)
    examples.append(example)
    if len(examples) == MOST:
      break
  return examples


def _by_kind(records: Any) -> list[Mapping[str, Any]]:
  """Records in turn by kind, so that the first few differ."""
  kinds: dict[str, list[Mapping[str, Any]]] = {}
  for record in records if isinstance(records, Sequence) else []:
    if isinstance(record, Mapping):
      kinds.setdefault(str(record.get("kind", "")), []).append(record)
  turns: list[Mapping[str, Any]] = []
  longest = max(map(len, kinds.values()), default=0)
  for place in range(longest):
    turns.extend(rows[place] for rows in kinds.values() if place < len(rows))
  return turns


def _example(corpus: pathlib.Path, record: Mapping[str, Any]) -> PageExample | None:
  """The example of a record; None without its question or file."""
  try:
    path = corpus / record["video"]
    _, _, question = record["conversations"][0]["value"].partition("\n")
  except (LookupError, TypeError, AttributeError):
    return None
  inside = path.resolve().is_relative_to(corpus.resolve())
  if not question or not inside or not path.is_file():
    return None
  return PageExample(path, question.strip())
