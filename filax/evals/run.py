# SPDX-License-Identifier: Apache-2.0
"""Scores a model on questions about videos.

Every video is read and encoded once for all its questions; reading runs in the background, answers
are generated in batches and kept as they come.
"""

from collections.abc import Iterable, Mapping, Sequence
import contextlib
import math
import os
import pathlib
import sys
import time
from typing import Any

from filax.evals import averaging, cost, pending, questions, result
from filax.evals.account import Account
from filax.evals.agreed_media import agreed_groups
from filax.evals.asking import Asking
from filax.evals.evaluation import Evaluation, prepare
from filax.evals.options import EvaluationOptions, Share
from filax.evals.progress_line import EvaluationProgress
from filax.evals.reading import AHEAD, MediaReader, frame_reader
from filax.evals.result import NothingScored
from filax.evals.results_folder import ResultsFolder
from filax.evals.rows import Row
from filax.evals.submissions import every_row
from filax.infer.loaded import LoadedModel
from filax.infer.pair import also_of_pair
from filax.memory_errors import is_out_of_memory
from filax.parallel.mesh import without_mesh

KEEP_SECONDS = 15.0  # Minimum time between two writes of result.json during a run.


@also_of_pair
def evaluate(
  session: LoadedModel,
  manifest: str | os.PathLike[str] | Sequence[str],
  *,
  data: str | os.PathLike[str] = "",
  protocol: str = "",
  root: str | os.PathLike[str] = "",
  allow_missing: bool = False,
  out: str | os.PathLike[str] = "",
  selector: str | None = None,
  frames: int | None = None,
  blind: bool = False,
  limit: int | None = None,
  batch: int = 32,
  threads: int = 2,
  ahead: int = AHEAD,
  max_new_tokens: int | None = None,
  progress: bool = True,
  process: Share | None = None,
  frame_cache: str | os.PathLike[str] = "",
) -> dict[str, Any]:
  """The result of a session on a benchmark or manifest.

    report = filax.evaluate(session, "videomme", data="/data", out="runs/evals/videomme")
    report = filax.evaluate(session, "questions.json", limit=50)

  manifest: a name of `filax evals --list`, "module:name" of a private benchmark, or the path of a
    manifest. Several of these give a dict of results, each in its own folder below `out`.
  data, root: the folder of the benchmarks' files (data/<name> if that exists), and of the media.
  protocol, allow_missing: "" is the protocol of the model's family; ask only about present media.
  out: the folder for result.json, answers.jsonl and page.html; the same call continues from it.
  selector, frames: another selector of as many visual tokens, and the most frames of a video.
  blind, limit: show grey pictures; ask only the first questions.
  batch, threads, ahead: prompts answered and media read at a time, and media that wait.
  process: (k, n) asks the k-th of n shares; the default follows jax.distributed.
  frame_cache: a folder of decoded frames, which the next evaluation of the same videos reads.

  Returns the result of filax/evals/README.md, with its `answers`. Raises ValueError or
  OSError if questions cannot be asked or scored, or answers cannot be stored.
  """
  options = EvaluationOptions(
    data=os.fspath(data),
    protocol=protocol,
    root=os.fspath(root),
    allow_missing=allow_missing,
    selector=selector,
    frames=frames,
    blind=blind,
    limit=limit,
    batch=batch,
    threads=threads,
    ahead=ahead,
    max_new_tokens=max_new_tokens,
    progress=progress,
    process=process,
    frame_cache=os.fspath(frame_cache),
  )
  if isinstance(manifest, str | os.PathLike):
    return run_evaluation(prepare(session, manifest, options), out)
  return _run_all(session, list(map(os.fspath, manifest)), options, out)


def _run_all(
  session: LoadedModel,
  names: Sequence[str],
  options: EvaluationOptions,
  out: str | os.PathLike[str],
) -> dict[str, Any]:
  """Runs several evaluations; returns name -> result."""
  _check_folders(names)
  prepared = {name: prepare(session, name, options) for name in names}
  results = {}
  failed: NothingScored | None = None
  for name, evaluation in prepared.items():
    folder = os.path.join(out, _folder_name(name)) if os.fspath(out) else ""
    try:
      results[name] = run_evaluation(evaluation, folder)
    except NothingScored as error:
      failed = failed or error
  if failed is not None:
    raise failed
  return results


def _check_folders(names: Sequence[str]) -> None:
  """Raises ValueError unless each name has a folder of its own."""
  folders: dict[str, str] = {}
  for name in names:
    other = folders.setdefault(_folder_name(name), name)
    if other != name:
      raise ValueError(
        f"{other} and {name} would both be kept under {_folder_name(name)!r}. Evaluate them one "
        "after the other, each with an --out of its own."
      )


def _folder_name(name: str) -> str:
  """The folder name of a benchmark's or manifest's result."""
  _, _, short = name.rpartition(":")
  return pathlib.Path(short).stem


@without_mesh()
def run_evaluation(evaluation: Evaluation, out: str | os.PathLike[str] = "") -> dict[str, Any]:
  """Asks the questions of this process's share and returns the result."""
  with contextlib.ExitStack() as stack:
    folder = None
    rows: dict[str, Row] = {}
    if os.fspath(out):
      folder = stack.enter_context(ResultsFolder(out, evaluation.share))
      folder.check_settings(evaluation.identity())
      rows = folder.read_rows()
      folder.open_answers()
    return _Run(evaluation, folder, rows).run()


class _Run:
  """One process's run of an evaluation."""

  def __init__(self, evaluation: Evaluation, folder: ResultsFolder | None, rows: dict[str, Row]):
    self.evaluation = evaluation
    self.folder = folder
    self.rows = _rows_of(evaluation, rows)
    self._answered_before = len(self.rows)
    self.account = Account(first_prompt=_first_prompt(folder))
    self.groups = _open_groups(evaluation, self.rows)
    count = sum(map(len, self.groups))
    self.batch = _batch_rows(evaluation, count)
    self.start = time.perf_counter()
    self._written = self.start
    shows_progress = evaluation.options.progress and count > 0
    self._progress = EvaluationProgress(count, self.start) if shows_progress else None

  def run(self) -> dict[str, Any]:
    """Asks, keeps and averages; returns the result with all answers."""
    before = self._result_before()
    if before is not None:
      return before | dict(answers=list(self.rows.values()))
    pending.check_server(self.evaluation)
    if self._progress is not None:
      print(cost.estimate(self.evaluation, self.groups), file=sys.stderr, flush=True)
    asking = Asking(self.evaluation, self.account, self.batch)
    try:
      self._ask(asking)
      self._measure(asking)
      self.account.finished = True
    except BaseException as error:
      self._measure(asking)
      with contextlib.suppress(OSError):  # The first error says more.
        self._write_result()
      if is_out_of_memory(error):
        raise ValueError(
          f"The memory does not hold {self.batch} prompts at a time. Lower --batch or "
          "--frames; the same command then goes on from the answers so far."
        ) from error
      raise
    finally:
      asking.end_measurement()
      if self._progress is not None:
        self._progress.remove_bar()
    return self._finish()

  def _result_before(self) -> dict[str, Any] | None:
    """The result of a run that has answered and scored everything."""
    if self.folder is None or len(self.rows) < len(self.evaluation.examples):
      return None
    if pending.count_pending(self.rows):
      return None
    result = self.folder.read_result()
    return result if result is not None and result["finished"] else None

  def _ask(self, asking: Asking) -> None:
    options = self.evaluation.options
    reader = MediaReader(
      self.evaluation.loaded,
      self.evaluation.settings["max_new_tokens"],
      options.blind,
      options.threads,
      options.ahead,
      frame_reader(self.evaluation.loaded, options.frame_cache),
    )
    seconds = self.account.seconds
    waiting_since = time.perf_counter()
    groups = reader.read_ahead(self.groups)
    for group in agreed_groups(groups, self.evaluation.loaded.processor.mesh):
      seconds["wait"] += time.perf_counter() - waiting_since
      seconds["decode"] += group.seconds
      self._keep(asking, asking.add_group(group))
      waiting_since = time.perf_counter()
    self._keep(asking, asking.flush())

  def _keep(self, asking: Asking, batches: Iterable[list[Row]]) -> None:
    """Writes answers as they come."""
    for rows in batches:
      if self.folder is not None:
        self.folder.append(rows)
      self.rows.update((row["id"], row) for row in rows)
      self._print_progress()
      if time.perf_counter() - self._written > KEEP_SECONDS:
        self._measure(asking)
        self._write_result()

  def _measure(self, asking: Asking) -> None:
    asking.note_times(time.perf_counter() - self.start)

  def _write_result(self) -> None:
    """Writes the result so far, unless other processes answer as well."""
    _, count = self.evaluation.share
    if self.folder is not None and count == 1:
      self.folder.write_result(self._result())
    self._written = time.perf_counter()

  def _result(self) -> dict[str, Any]:
    rows = list(self.rows.values())
    return result.build_result(self.evaluation, rows, self.account, self.batch)

  def _finish(self) -> dict[str, Any]:
    """The result of all processes, if all have finished."""
    self._print_progress(last=True)
    accounts = [self.account.to_json()]
    if self.folder is not None:
      finished = self.folder.write_account(self.account.to_json())
      if finished is None:
        return self._result_of_share()
      accounts = finished
      self.rows = _rows_of(self.evaluation, self.folder.read_rows())
      self.folder.merge(list(self.rows.values()))
    self.account = Account.merged(accounts)
    self._score_pending()
    final = self._result()
    rows = list(self.rows.values())
    if self.folder is not None:
      self.folder.write_result(final)
      submission = self.evaluation.benchmark.submission
      if submission is not None:
        self.folder.write_submission(submission(every_row(rows, self.evaluation.examples)))
    if not rows:
      raise NothingScored(final)
    return final | dict(answers=rows)

  def _result_of_share(self) -> dict[str, Any]:
    """What is known before the other processes have finished."""
    self.account.finished = False
    return self._result() | dict(answers=list(self.rows.values()))

  def _score_pending(self) -> None:
    """Scores the answers that wait for a server.

    The scores are kept as they come.
    """
    if not pending.count_pending(self.rows):
      return
    self.account.finished = False
    self._keep_scores()
    start = time.perf_counter()
    kept = start
    try:
      for row in pending.score_pending_rows(self.evaluation, self.rows):
        self.rows[row["id"]] = row
        if time.perf_counter() - kept > KEEP_SECONDS:
          self._keep_scores()
          kept = time.perf_counter()
    finally:
      self.account.seconds["judge"] = time.perf_counter() - start
      self._keep_scores()
    self.account.finished = True

  def _keep_scores(self) -> None:
    """Writes the scores so far; the result first, which has not finished."""
    if self.folder is not None:
      self.folder.write_result(self._result())
      self.folder.replace_rows(list(self.rows.values()))

  def _print_progress(self, last: bool = False) -> None:
    if self._progress is None:
      return
    done = len(self.rows) - self._answered_before + len(self.account.skipped)

    def accuracy() -> float | None:
      return averaging.mean_score(list(self.rows.values()))

    self._progress.count_answers(done, len(self.account.bad_media), accuracy, last)


def _batch_rows(evaluation: Evaluation, count: int) -> int:
  """Prompts of a batch, which are whole rows of the mesh."""
  rows = max(1, min(evaluation.options.batch, count or len(evaluation.examples)))
  mesh = evaluation.loaded.processor.mesh
  if mesh is None:
    return rows
  at_once = mesh.shape["data"] * mesh.shape["fsdp"]
  return math.ceil(rows / at_once) * at_once


def _first_prompt(folder: ResultsFolder | None) -> str:
  """The first prompt of the run that this one continues."""
  result = None if folder is None else folder.read_result()
  return "" if result is None else result["first_prompt"]


def _rows_of(evaluation: Evaluation, rows: Mapping[str, Row]) -> dict[str, Row]:
  """The rows of an evaluation's questions."""
  ids = {example.id for example in evaluation.examples}
  return {id: row for id, row in rows.items() if id in ids}


def _open_groups(evaluation: Evaluation, rows: Mapping[str, Row]) -> list[questions.Group]:
  """The questions of this process's share that have no answer yet."""
  groups = []
  for group in questions.media_groups(evaluation.examples, evaluation.share):
    unanswered = [example for example in group if example.id not in rows]
    if unanswered:
      groups.append(unanswered)
  return groups
