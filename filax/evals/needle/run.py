# SPDX-License-Identifier: Apache-2.0
"""Needles in a video haystack.

Builds the contexts, asks, scores, writes the results.

The haystack is encoded once for all lengths and depths, and read once into a cache that all
contexts share up to their needle.
"""

from collections.abc import Sequence
import os
import time
from typing import Any

from filax.evals.needle import cells as cells_lib
from filax.evals.needle import contexts
from filax.evals.needle import items as items_lib
from filax.evals.needle.answers import AnswerFile
from filax.evals.needle.cells import Cell
from filax.evals.needle.context_size import check_frames
from filax.evals.needle.items import NeedleItem, NeedleQuestion
from filax.evals.needle.progress import NeedleProgress
from filax.evals.needle.protocols import comparison_text
from filax.evals.needle.report import NeedleReport, former_result, write_results
from filax.evals.needle.setup import NeedleOptions, NeedleTest, prepare_test
from filax.evals.needle.visuals import HaystackSource, NeedleVisuals, encode_visuals
from filax.infer.loaded import LoadedModel
from filax.infer.prefix import PlainPrefill, SharedPrefix, greedy_ids, joined_tokens


def run_needles(
  loaded: LoadedModel, options: NeedleOptions, out: str | os.PathLike = ""
) -> dict[str, Any]:
  """The result of a needle test, also written to the folder `out`.

  The same call continues a run that was stopped. Raises ValueError for bad input, and if `out`
  holds the answers of another test.
  """
  test = prepare_test(loaded, options)
  check_frames(test)
  report = NeedleReport(test)
  answers = AnswerFile(out, report.identity())
  if answers.rows:
    report.continue_from(former_result(out))
  try:
    NeedleRun(test, report, answers).run()
  finally:
    if answers.rows:
      write_results(report, answers.rows, out)
  return report.result(answers.rows) | dict(answers=answers.rows)


class NeedleRun:
  """Asks the cells of a test that have no answers yet."""

  def __init__(
    self,
    test: NeedleTest,
    report: NeedleReport,
    answers: AnswerFile,
  ):
    self._test = test
    self._report = report
    self._answers = answers

  def run(self) -> None:
    """Asks all questions; rows are on disk after each context."""
    done = self._answers.ids
    waiting = [cell for cell in self._test.cells() if not self._is_done(cell, done)]
    if not waiting:
      return
    start = time.perf_counter()
    visuals = self._encode()
    self._report.add_seconds("encode", time.perf_counter() - start)
    reader = self._reader(visuals, waiting)
    line = NeedleProgress(len(waiting), self._test.options.progress)
    for cell in waiting:
      start = time.perf_counter()
      before = reader.tokens_read
      rows, size = self._ask_cell(cell, visuals, reader)
      self._report.count_context(
        cell,
        size,
        reader.tokens_read - before,
      )
      self._report.add_seconds("prefill", time.perf_counter() - start)
      self._answers.add_rows(rows)
      line.count_context(self._answers.rows, cell)
    line.end(self._answers.rows)

  def _is_done(
    self,
    cell: Cell,
    done: set[str],
  ) -> bool:
    item = self._test.items[cell.item]
    for question in item.questions:
      if row_id(cell, item, question) not in done:
        return False
    return True

  def _encode(self) -> NeedleVisuals:
    """Encodes the haystack, once for all cells."""
    options = self._test.options
    protocol = self._test.protocol
    source = HaystackSource(
      options.haystack,
      options.seed,
      protocol.twice,
      options.encode_cache,
    )
    frames = max(self._test.lengths)
    visuals = encode_visuals(
      self._test.loaded,
      source,
      frames,
      self._test.pictures,
    )
    self._report.note_haystack(visuals)
    return visuals

  def _reader(
    self,
    visuals: NeedleVisuals,
    waiting: Sequence[Cell],
  ) -> SharedPrefix | PlainPrefill:
    """The reader; the haystack is its base if contexts begin with it."""
    loaded = self._test.loaded
    if not self._test.shares_prefixes:
      return PlainPrefill(loaded, visuals.table)
    reader = SharedPrefix(loaded, visuals.table)
    lengths = [cell.frames for cell in waiting if cell.control != cells_lib.GREY]
    if self._test.depths and lengths:
      start = time.perf_counter()
      stop = visuals.place(max(lengths))
      rows = visuals.haystack[:stop]
      frame = self._frame(self._test.items[0].questions[0])
      reader.keep_base(joined_tokens([frame.before, contexts.as_visuals(rows)]))
      self._report.count_base(reader.tokens_read)
      self._report.add_seconds("prefill", time.perf_counter() - start)
    return reader

  def _ask_cell(
    self, cell: Cell, visuals: NeedleVisuals, reader: SharedPrefix | PlainPrefill
  ) -> tuple[list[dict[str, Any]], int]:
    """(rows of the answers, tokens of their prompts without sharing)."""
    test = self._test
    item = test.items[cell.item]
    visual = cells_lib.cell_rows(
      cell,
      item,
      test.others,
      visuals,
    )
    rows: list[dict[str, Any]] = []
    size = 0
    end = contexts.as_visuals(visuals.end)
    for question in item.questions:
      frame = self._frame(question)
      context = joined_tokens([frame.before, contexts.as_visuals(visual)])
      if not rows:
        reader.read_context(context)
      words = joined_tokens([end, frame.question])
      logits = reader.answer_logits(words, frame.answer)
      ids = greedy_ids(test.loaded, logits)
      size += len(context.tokens) + len(words.tokens) + len(frame.answer) - 1
      rows.append(self._row(cell, item, question, frame.answer, ids))
    if len(rows) > 1:
      joint = all(row["score"] for row in rows)
      for row in rows:
        row["joint"] = joint
    return rows, size

  def _frame(self, question: NeedleQuestion) -> contexts.PromptFrame:
    return contexts.prompt_frame(
      self._test.loaded.processor,
      question.text,
      question.answer,
    )

  def _row(
    self,
    cell: Cell,
    item: NeedleItem,
    question: NeedleQuestion,
    expected: list[int],
    ids: list[int],
  ) -> dict[str, Any]:
    """A line of answers.jsonl."""
    text = self._test.loaded.processor.tokenizer.decode(ids)
    compared = comparison_text(text)
    if self._test.protocol.all_ids:
      right = ids == expected
    else:
      right = compared == comparison_text(question.answer)
    letters = items_lib.option_letters(question.text)
    choice = compared.upper() if letters else compared
    parsed = choice in letters if letters else bool(compared)
    return dict(
      id=row_id(cell, item, question),
      item=item.id,
      name=question.name,
      control=cell.control,
      frames=cell.frames,
      depth=cell.depth,
      question=question.text,
      answer=text,
      expected=question.answer,
      score=float(right),
      parsed=parsed,
      choice=choice if parsed else None,
      flag=_flag(text),
      media=item.needle_picture,
      duration=float(cell.frames),  # Seconds, at one frame a second.
    )


def row_id(cell: Cell, item: NeedleItem, question: NeedleQuestion) -> str:
  """The id of an answer, e.g. "3/10000/0.2" or "3/10000/CAP/grey"."""
  words = [item.id, str(cell.frames)]
  if cell.depth is not None:
    words.append(f"{cell.depth:.6g}")
  for word in (question.name, cell.control):
    if word:
      words.append(word)
  return "/".join(words)


def _flag(text: str) -> str:
  """empty | symbols, or "" for words."""
  if not text.strip():
    return "empty"
  return "" if any(letter.isalnum() for letter in text) else "symbols"
