# SPDX-License-Identifier: Apache-2.0
"""Scores a model on questions about videos. Every video is read and encoded once for all its
questions; reading runs in the background, answers are generated in batches."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import os
import sys
import time
from typing import Any

import jax.numpy as jnp
import numpy as np

from data_pipelines.manifest.reader import Report
from data_pipelines.media import open as media
from data_pipelines.sample import Timeline
from filax.evals import registry
from filax.evals.kit import Benchmark, Example
from filax.evals.reading import reading
from filax.evals.report_file import NothingScored, ReportFile
from filax.infer import compiled as programs
from filax.infer import encode
from filax.infer import processor as processor_lib
from filax.infer import video as video_lib
from filax.infer.generate import check_prompts, check_settings, generate

SAY_SECONDS = 2.0


def evaluate(
  model,
  params: Mapping,
  manifest: str | os.PathLike | Sequence[str],
  *,
  root: str = "",
  selector: str | None = None,
  blind: bool = False,
  limit: int | None = None,
  batch: int = 32,
  threads: int = 2,
  max_new_tokens: int | None = None,
  progress: bool = True,
  out: str | os.PathLike = "",
) -> dict[str, Any]:
  """The scores of a loaded model (filax.load) on a manifest of questions, or a benchmark's name.

  `selector` answers with another selector at the same number of visual tokens, `blind` shows grey
  pictures, `limit` asks the first questions only, `batch` prompts are answered at a time. Returns
  accuracy, questions, videos, unparsed (answers not understood; they count as wrong), skipped
  (questions that cannot be asked; they do not count), bad_media (why their media cannot be read),
  bad_questions (what else is wrong, such as a prompt beyond the context), bad_records, by (column
  -> value -> accuracy and questions), seconds, finished and answers (one a question). Several
  manifests give a dict of such dicts. `out`: a file for the report, written while answers come, so
  that a run that is stopped leaves what it has. Raises ValueError if there is nothing to ask, or
  nothing that could be scored.
  """
  _check_counts(limit=limit, batch=batch, threads=threads)
  if not isinstance(manifest, str | os.PathLike):
    options = dict(
      root=root,
      selector=selector,
      blind=blind,
      limit=limit,
      batch=batch,
      threads=threads,
      max_new_tokens=max_new_tokens,
      progress=progress,
    )
    return {os.fspath(m): evaluate(model, params, m, **options) for m in manifest}
  found, path = registry.find(manifest)
  examples, report = questions(found, path, root, limit)
  model = prepared(model, found, selector)
  settings = model.processor.settings(max_new_tokens=max_new_tokens)
  check_settings(*[settings[key] for key in ("max_new_tokens", "temperature", "top_p")], top_k=0)
  run = Run(
    model, params, found, blind, min(batch, len(examples)), len(examples), progress, settings
  )
  file = ReportFile(run, path, [str(bad) for bad in report.bad], out)
  run.after_answers = file.refresh
  try:
    for group, media_read in reading(model, examples, threads, blind):
      run.ask(group, media_read)
    run.flush()
    run.finished = True
  finally:
    file.write()
  run.say(last=True)
  if not run.answers:
    raise NothingScored(file.report())
  return file.report()


def _check_counts(**counts: int | None) -> None:
  for name, count in counts.items():
    if count is not None and count < 1:
      raise ValueError(f"{name}={count} asks nothing. Set --{name} to 1 or more.")


def questions(
  found: Benchmark, path: str, root: str, limit: int | None
) -> tuple[list[Example], Report]:
  """The questions to ask, those about the same media one after the other."""
  report = Report()
  examples = list(itertools.islice(found.read(path, root, report), limit))
  if not examples:
    reason = f"; the first reason: {report.bad[0]}" if report.bad else ""
    raise ValueError(f"The manifest {path} holds no question that can be asked{reason}.")
  groups = collections.defaultdict(list)
  for example in examples:
    groups[example.media].append(example)
  return list(itertools.chain.from_iterable(groups.values())), report


def prepared(model, found: Benchmark, selector: str | None):
  """The model with the selector and the number of frames that are asked for."""
  processor = processor_lib.of(model)
  if found.frames:
    frames = dict(processor.infer["sampling"]) | dict(frames=found.frames)
    infer = dict(processor.infer) | dict(sampling=frames)
    model = model.clone(processor=dataclasses.replace(processor, infer=infer))
  return model if selector is None else processor_lib.with_selector(model, selector)


class Run:
  """One pass over the questions: what waits for a full batch, and the answers so far."""

  def __init__(self, model, params, found, blind, batch, total, progress, settings):
    self.model, self.params, self.benchmark, self.blind = model, params, found, blind
    self.batch, self.total, self.progress, self.settings = batch, total, progress, settings
    self.waiting: list[tuple[Example, list[int], np.ndarray, Any]] = []
    self.answers: list[dict[str, Any]] = []
    self.media: set[Timeline] = set()
    self.bad: dict[str, str] = {}  # Medium -> why it cannot be read.
    self.bad_questions: list[str] = []  # What else cannot be asked, and why.
    self.skipped = 0
    self.finished = False
    self.after_answers = lambda: None
    self.seconds = collections.Counter()
    self.start = self.said = self.mark = time.perf_counter()
    self.pace = collections.deque([(self.start, 0)], maxlen=5)  # (time, questions done) of lines.
    self.compilations = self.compiled()

  @staticmethod
  def compiled() -> int:
    return sum(program.count for program in programs.ALL)

  def ask(self, group: Sequence[Example], media_read: Sequence) -> None:
    """Takes in the questions about one set of media; answers whenever a batch is full."""
    self.lap("wait")
    self.media.update(group[0].media)
    for timeline, found in zip(group[0].media, media_read, strict=True):
      if isinstance(found, media.MediaError):
        self.bad[timeline[0].media] = str(found)
    if any(isinstance(found, media.MediaError) for found in media_read):
      self.skipped += len(group)
      return
    try:
      shown = self.shown(media_read)
    except ValueError as error:
      self.refuse(group, error)
      return
    empty = jnp.zeros((1, self.model.llm.width), self.model.llm.dtype)
    table = encode.joined(shown) if shown else empty
    for example in group:
      try:
        self.waiting.append((example, *self.prompt(example, shown), table))
      except ValueError as error:
        self.refuse([example], error)
    self.lap("encode")
    while len(self.waiting) >= self.batch:
      self.answer(self.waiting[: self.batch])
      del self.waiting[: self.batch]
      self.say()

  def refuse(self, group: Sequence[Example], error: ValueError) -> None:
    """Lists questions that cannot be asked; they are counted, and the run goes on."""
    self.skipped += len(group)
    self.bad_questions += [f"{example.id}: {error}" for example in group]

  def shown(self, media_read: Sequence) -> list[encode.Seen]:
    """The visual tokens of media. Raises the ValueError with which one could not be read."""
    for found in media_read:
      if isinstance(found, ValueError):
        raise found
    return [self.see(found) for found in media_read]

  def prompt(self, example: Example, shown: Sequence[encode.Seen]) -> tuple[list[int], np.ndarray]:
    """(tokens, visual index) of a question. Raises ValueError if the model cannot read so many."""
    turns = (*example.before, self.benchmark.prompt(example))
    tokens, index = self.model.processor.prompt(turns, shown)
    check_prompts(self.model, [tokens], self.settings["max_new_tokens"])
    programs.bucket(len(tokens), self.settings["lengths"], "config.infer.lengths")
    return tokens, index

  def see(self, found) -> encode.Seen:
    if isinstance(found, video_lib.Video):
      return encode.see(self.model, self.params, found)
    return encode.see_picture(self.model, self.params, *found)

  def flush(self) -> None:
    """Answers what is left, in a batch that is filled up with its first prompt."""
    if rest := self.waiting:
      self.answer(rest + rest[:1] * (self.batch - len(rest)), len(rest))
      self.waiting = []

  def answer(self, rows: Sequence, real: int | None = None) -> None:
    """Generates the answers of a batch and scores them."""
    examples, prompts, index, tables = zip(*rows, strict=True)
    made = generate(
      self.model,
      self.params,
      prompts,
      table=encode.stacked(tables),
      visual_index=index,
      **self.settings,
    )
    for example, ids in list(zip(examples, made.tokens, strict=True))[:real]:
      text = self.model.processor.text(ids)
      parsed = self.benchmark.parse(text, example)
      score = 0.0 if parsed is None else self.benchmark.score(parsed, example)
      columns = {key: str(example.fields.get(key) or "") for key in self.benchmark.by}
      self.answers.append(
        dict(
          id=example.id,
          question=example.turn.text.strip(),
          answer=text,
          expected=example.answer,
          score=score,
          parsed=parsed is not None,
          **columns,
        )
      )
    self.lap("generate")
    self.after_answers()

  def lap(self, name: str) -> None:
    """Adds the time since the last lap to a phase."""
    now = time.perf_counter()
    self.seconds[name] += now - self.mark
    self.mark = now

  def say(self, last: bool = False) -> None:
    """One line on stderr now and then: count, rate, remaining time, accuracy so far."""
    now = time.perf_counter()
    if not self.progress or (now - self.said < SAY_SECONDS and not last):
      return
    self.said = now
    done = len(self.answers) + self.skipped
    before, earlier = self.pace[0]
    self.pace.append((now, done))
    accuracy = f", accuracy {mean(self.answers):.3f}" if self.answers else ""
    rate = max(done - earlier, 1) / (now - before)
    print(
      f"questions {done}/{self.total}, {len(self.bad)} bad media, {rate:.1f}/s, "
      f"{(self.total - done) / rate:.0f} s left{accuracy}",
      file=sys.stderr,
      flush=True,
    )

  def summary(self, path: str) -> dict[str, Any]:
    """The report of `evaluate`."""
    infer, by = self.model.processor.infer, {}
    for key in self.benchmark.by:
      groups = collections.defaultdict(list)
      for row in self.answers:
        groups[row[key]].append(row)
      by[key] = {
        name: dict(accuracy=mean(rows), questions=len(rows))
        for name, rows in sorted(groups.items())
      }
    total = time.perf_counter() - self.start
    return dict(
      manifest=path,
      checkpoint=self.model.processor.source,
      selector=infer["selector"]["name"],
      frames=infer["sampling"].get("frames"),
      blind=self.blind,
      accuracy=mean(self.answers),
      questions=len(self.answers),
      videos=len(self.media),
      skipped=self.skipped,
      unparsed=sum(not row["parsed"] for row in self.answers),
      bad_media=self.bad,
      bad_questions=self.bad_questions,
      finished=self.finished,
      by=by,
      seconds={k: round(v, 3) for k, v in self.seconds.items()} | dict(total=round(total, 3)),
      compilations=self.compiled() - self.compilations,
      answers=self.answers,
    )


def mean(rows: Sequence[Mapping[str, Any]]) -> float | None:
  """The mean score; None of nothing."""
  return sum(row["score"] for row in rows) / len(rows) if rows else None
