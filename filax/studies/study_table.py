# SPDX-License-Identifier: Apache-2.0
"""The numbers of a study: means of its cells, and verdicts on its contrasts."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import re
from typing import NamedTuple

import numpy as np

from filax.studies.cell_files import CellFolder, CellQuestion, CellResult
from filax.studies.crossed import CrossedMean, crossed_mean
from filax.studies.design import Contrast, StudyColumn, StudyDesign

AGREES = "agrees"
DISAGREES = "disagrees"
UNDECIDED = "undecided"
NOT_RUN = "not run"

Scores = Mapping[str, tuple[float, str]]  # Question -> its score and its video.


class TableEntry(NamedTuple):
  """A cell in a column; no mean before it has run."""

  cell: str
  column: str
  mean: CrossedMean | None
  published: float | None  # The paper's number, in its own unit.


class ContrastVerdict(NamedTuple):
  """What the cells say of a claim.

  `difference` is the claimed higher cell less the lower one.
  """

  contrast: Contrast
  verdict: str
  difference: CrossedMean | None
  smallest: float | None  # The smallest difference that would have been seen.
  published: float | None  # The paper's difference, in its own unit.


@dataclasses.dataclass(frozen=True)
class StudyNumbers:
  """All numbers of a study."""

  design: StudyDesign
  entries: Sequence[TableEntry]
  verdicts: Sequence[ContrastVerdict]
  cells: Mapping[str, Sequence[CellResult]]  # Cell -> its results, one a seed.
  seeds: int
  outdated: Sequence[str]  # Files of another config, which count nowhere.

  def entry(self, cell: str, column: str) -> TableEntry:
    """The entry of a cell and a column."""
    for entry in self.entries:
      if (entry.cell, entry.column) == (cell, column):
        return entry
    raise KeyError((cell, column))

  @property
  def finished_seeds(self) -> int:
    """The number of seeds with a result of any cell."""
    return len({result.seed for results in self.cells.values() for result in results})

  @property
  def unlike(self) -> list[str]:
    """Cells whose questions are not those of most cells."""
    results = list(itertools.chain.from_iterable(self.cells.values()))
    names = []
    for questions in self.design.questions:
      digests = [result.questions.get(questions) for result in results]
      usual = collections.Counter(digests).most_common(1)
      for result, digest in zip(results, digests, strict=True):
        if digest != usual[0][0]:
          count = len(result.verdicts.get(questions, ()))
          names.append(f"{result.cell}.seed{result.seed} ({count} of {questions})")
    return names

  @property
  def empty_columns(self) -> list[str]:
    """Columns without any question, although a cell has run."""
    if not any(self.cells.values()):
      return []
    filled = {entry.column for entry in self.entries if entry.mean is not None}
    return [name for name in self.design.columns if name not in filled]

  @property
  def missing(self) -> list[str]:
    """Cells that have no result, or fewer seeds than asked for."""
    names = []
    for name, cell in self.design.cells.items():
      wanted = 1 if cell.checkpoint else self.seeds
      if len(self.cells[name]) < wanted:
        names.append(name)
    return names


class StudyReader:
  """Reads finished cells, and the questions that they answered."""

  def __init__(self, design: StudyDesign, folder: CellFolder):
    self._design = design
    self._folder = folder
    self._questions: dict[str, list[CellQuestion]] = {}

  def column_scores(self, result: CellResult, column: StudyColumn) -> Scores:
    """The scores of a column's questions in a cell."""
    digest = result.questions.get(column.questions)
    if digest is None:
      return {}
    if digest not in self._questions:
      self._questions[digest] = self._folder.read_cell_questions(digest)
    scores = {}
    verdicts = result.verdicts[column.questions]
    for question, score in zip(self._questions[digest], verdicts, strict=True):
      if in_column(question, column):
        scores[question.id] = (score, question.media)
    return scores

  def column_mean(self, results: Sequence[CellResult], column: StudyColumn) -> CrossedMean | None:
    """The mean over seeds and the questions that all of them answered."""
    tables = [self.column_scores(result, column) for result in results]
    names = common_names(tables)
    if not names:
      return None
    rows = [score_row(table, names) for table in tables]
    return crossed_mean(np.array(rows), video_units(tables[0], names))


def in_column(question: CellQuestion, column: StudyColumn) -> bool:
  """Whether a question counts in a column."""
  if not column.field:
    return True
  groups = question.groups.get(column.field, "")
  names = groups if isinstance(groups, list) else [groups]
  return any(re.search(column.pattern, str(name)) for name in names)


def study_numbers(
  design: StudyDesign,
  folder: CellFolder,
  hashes: Mapping[tuple[str, int], str],
  seeds: int,
) -> StudyNumbers:
  """The numbers of the cells that are there.

  hashes: (cell, seed) -> hash of the study's config; files with another one count nowhere.
  """
  cells: dict[str, list[CellResult]] = {name: [] for name in design.cells}
  outdated = []
  for (name, seed), digest in hashes.items():
    result = folder.read_cell(name, seed)
    if result is None:
      continue
    if result.hash == digest:
      cells[name].append(result)
    else:
      outdated.append(folder.cell_path(name, seed).name)
  reader = StudyReader(design, folder)
  entries = []
  for name in design.cells:
    for column in design.columns.values():
      mean = reader.column_mean(cells[name], column)
      entries.append(TableEntry(name, column.name, mean, design.published.get((column.name, name))))
  verdicts = [_judge(design, contrast, cells, reader) for contrast in design.contrasts]
  return StudyNumbers(design, entries, verdicts, cells, seeds, outdated)


def _judge(
  design: StudyDesign,
  contrast: Contrast,
  cells: Mapping[str, Sequence[CellResult]],
  reader: StudyReader,
) -> ContrastVerdict:
  """The verdict on a claim, paired by seed and question.

  One seed of a trained model decides nothing, and would see no difference, since another seed may
  give another order.
  """
  column = design.columns[contrast.column]
  pairs = []
  for above, below in paired_by_seed(cells[contrast.higher], cells[contrast.lower]):
    pairs.append((reader.column_scores(above, column), reader.column_scores(below, column)))
  difference = paired_difference(pairs)
  published = _published_difference(design, contrast)
  if difference is None:
    return ContrastVerdict(contrast, NOT_RUN, None, None, published)
  is_trained = design.cells[contrast.higher].run or design.cells[contrast.lower].run
  if difference.seeds == 1 and is_trained:
    return ContrastVerdict(contrast, UNDECIDED, difference, None, published)
  smallest = None
  if difference.has_interval:
    one_answer = 1 / (difference.seeds * difference.questions)
    smallest = max(difference.smallest_difference, one_answer)
  return ContrastVerdict(contrast, verdict_on(difference), difference, smallest, published)


def paired_by_seed(
  first: Sequence[CellResult],
  second: Sequence[CellResult],
) -> list[tuple[CellResult, CellResult]]:
  """The results of two cells for the seeds that both have."""
  of_seed = {result.seed: result for result in second}
  pairs = []
  for result in first:
    if result.seed in of_seed:
      pairs.append((result, of_seed[result.seed]))
  return pairs


def paired_difference(pairs: Sequence[tuple[Scores, Scores]]) -> CrossedMean | None:
  """The mean difference over seeds and common questions; None without any."""
  tables = list(itertools.chain.from_iterable(pairs))
  names = common_names(tables)
  if not names:
    return None
  rows = []
  for above, below in pairs:
    rows.append(score_row(above, names) - score_row(below, names))
  return crossed_mean(np.array(rows), video_units(tables[0], names))


def verdict_on(difference: CrossedMean) -> str:
  """Whether a difference that is claimed to be positive is."""
  if difference.low > 0:
    return AGREES
  if difference.high < 0:
    return DISAGREES
  return UNDECIDED


def _published_difference(design: StudyDesign, contrast: Contrast) -> float | None:
  higher = design.published.get((contrast.column, contrast.higher))
  lower = design.published.get((contrast.column, contrast.lower))
  if higher is None or lower is None:
    return None
  return higher - lower


def common_names(tables: Sequence[Scores]) -> list[str]:
  """The questions of all tables, in the order of the first."""
  if not tables:
    return []
  first, *others = tables
  common = set(first).intersection(*others)
  return [name for name in first if name in common]


def score_row(table: Scores, names: Sequence[str]) -> np.ndarray:
  """The scores of questions, f64 [n]."""
  scores = [table[name][0] for name in names]
  return np.array(scores, np.float64)


def video_units(table: Scores, names: Sequence[str]) -> np.ndarray:
  """The number of each question's video, i64 [n]."""
  videos = [table[name][1] for name in names]
  _, numbers = np.unique(np.array(videos), return_inverse=True)
  return numbers.astype(np.int64)
