# SPDX-License-Identifier: Apache-2.0
"""Scores a model on questions about videos. Every video is read and encoded once for all its
questions; reading runs in the background, answers are generated in batches."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
import dataclasses
import itertools
import os
import sys
import time
from typing import Any

import jax.numpy as jnp
import numpy as np

from data_pipelines import images, sampling
from data_pipelines.media import open as media
from data_pipelines.records import Timeline
from data_pipelines.sources.manifests import Report
from filax.evals import benchmark as benchmark_lib
from filax.evals.benchmark import Benchmark, Example
from filax.infer import processor as processor_lib
from filax.infer import programs, seen
from filax.infer import video as video_lib
from filax.infer.generate import generate

AHEAD = 4  # Media that are read before they are needed, beyond those being read.
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
) -> dict[str, Any]:
  """The scores of a loaded model (filax.load) on a manifest of questions, or a benchmark's name.

  `selector` answers with another selector at the same number of visual tokens, `blind` shows grey
  pictures, `limit` asks the first questions only, `batch` prompts are answered at a time. Returns
  accuracy, questions, videos, unparsed (answers not understood; they count as wrong), skipped
  (questions whose media cannot be read; they do not count), bad_media, bad_records, by (column ->
  value -> accuracy and questions), seconds and answers (one a question). Several manifests give a
  dict of such dicts. Raises ValueError if there is nothing to ask.
  """
  if not isinstance(manifest, str | os.PathLike):
    options = dict(
      root=root, selector=selector, blind=blind, limit=limit, batch=batch, threads=threads,
      max_new_tokens=max_new_tokens, progress=progress)
    return {os.fspath(m): evaluate(model, params, m, **options) for m in manifest}
  found, path = benchmark_lib.find(manifest)
  examples, report = questions(found, path, root, limit)
  model = prepared(model, found, selector)
  run = Run(model, params, found, blind, min(batch, len(examples)), len(examples), progress,
            model.processor.settings(max_new_tokens=max_new_tokens))
  for group, media_read in reading(model, examples, threads, blind):
    run.ask(group, media_read)
  run.flush()
  run.say(last=True)
  return run.summary(path) | dict(bad_records=[str(bad) for bad in report.bad])


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


def reading(
  model, examples: Sequence[Example], threads: int, blind: bool
) -> Iterator[tuple[list[Example], list]]:
  """(questions, what `read` made of their media) for every set of media, in the background."""
  groups = [list(g) for _, g in itertools.groupby(examples, key=lambda e: e.media)]
  waiting: collections.deque[tuple[list[Example], list[Future]]] = collections.deque()
  with ThreadPoolExecutor(max(1, threads)) as pool:
    try:
      for group in groups:
        shown = group[0].media
        jobs = [pool.submit(read, model, t, blind, len(shown) == 1) for t in shown]
        waiting.append((group, jobs))
        if len(waiting) > max(1, threads) + AHEAD:
          group, jobs = waiting.popleft()
          yield group, [job.result() for job in jobs]
      while waiting:
        group, jobs = waiting.popleft()
        yield group, [job.result() for job in jobs]
    finally:
      pool.shutdown(wait=False, cancel_futures=True)


def read(model, timeline: Timeline, blind: bool, alone: bool = True):
  """A Video, or (picture, views) of a still; a MediaError in place of what cannot be read.
  `alone`: no other medium is shown with it."""
  processor = model.processor
  try:
    if timeline[0].kind != "image":
      return blank(model, timeline) if blind else processor.read(timeline, model)
    picture = media.read_image(timeline[0].media)
    picture = np.full_like(picture, media.GREY) if blind else picture
    height, width, _ = picture.shape
    return picture, images.views(
      width, height, processor.data["images"], model.encoder.size, alone)
  except media.MediaError as error:
    return error


def blank(model, timeline: Timeline) -> video_lib.Video:
  """A video of grey frames, at the times that would have been read."""
  how, size = model.processor.infer["sampling"], model.encoder.size
  extent = video_lib.extent_of(timeline, model.processor.limits, how)
  count = video_lib.count_frames(how, extent, video_lib.unit_of(model))
  times = sampling.sample_times(how, count, extent).astype(np.float32)
  frames = np.full((count, size, size, 3), media.GREY, np.uint8)
  return video_lib.Video(frames, times, extent.duration, timeline[0].media)


class Run:
  """One pass over the questions: what waits for a full batch, and the answers so far."""

  def __init__(self, model, params, found, blind, batch, total, progress, settings):
    self.model, self.params, self.benchmark, self.blind = model, params, found, blind
    self.batch, self.total, self.progress, self.settings = batch, total, progress, settings
    self.waiting: list[tuple[Example, list[int], np.ndarray, Any]] = []
    self.answers: list[dict[str, Any]] = []
    self.media: set[Timeline] = set()
    self.bad: dict[str, str] = {}  # Medium -> why it cannot be read.
    self.skipped = 0
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
    shown = [self.see(found) for found in media_read]
    empty = jnp.zeros((1, self.model.llm.width), self.model.llm.dtype)
    table = seen.joined(shown) if shown else empty
    for example in group:
      turns = (*example.before, self.benchmark.prompt(example))
      self.waiting.append((example, *self.model.processor.prompt(turns, shown), table))
    self.lap("encode")
    while len(self.waiting) >= self.batch:
      self.answer(self.waiting[: self.batch])
      del self.waiting[: self.batch]
      self.say()

  def see(self, found) -> seen.Seen:
    if isinstance(found, video_lib.Video):
      return seen.see(self.model, self.params, found)
    return seen.see_picture(self.model, self.params, *found)

  def flush(self) -> None:
    """Answers what is left, in a batch that is filled up with its first prompt."""
    if rest := self.waiting:
      self.answer(rest + rest[:1] * (self.batch - len(rest)), len(rest))
      self.waiting = []

  def answer(self, rows: Sequence, real: int | None = None) -> None:
    """Generates the answers of a batch and scores them."""
    examples, prompts, index, tables = zip(*rows, strict=True)
    made = generate(
      self.model, self.params, prompts, table=seen.stacked(tables), visual_index=index,
      **self.settings)
    for example, ids in list(zip(examples, made.tokens, strict=True))[:real]:
      text = self.model.processor.text(ids)
      parsed = self.benchmark.parse(text, example)
      score = 0.0 if parsed is None else self.benchmark.score(parsed, example)
      columns = {key: str(example.fields.get(key) or "") for key in self.benchmark.by}
      self.answers.append(dict(
        id=example.id, question=example.turn.text.strip(), answer=text, expected=example.answer,
        score=score, parsed=parsed is not None, **columns))
    self.lap("generate")

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
    (before, earlier), _ = self.pace[0], self.pace.append((now, done))
    rate = max(done - earlier, 1) / (now - before)
    print(
      f"questions {done}/{self.total}, {len(self.bad)} bad media, {rate:.1f}/s, "
      f"{(self.total - done) / rate:.0f} s left, accuracy {mean(self.answers):.3f}",
      file=sys.stderr, flush=True)

  def summary(self, path: str) -> dict[str, Any]:
    """The report of `evaluate`."""
    infer, by = self.model.processor.infer, {}
    for key in self.benchmark.by:
      groups = collections.defaultdict(list)
      for row in self.answers:
        groups[row[key]].append(row)
      by[key] = {
        name: dict(accuracy=mean(rows), questions=len(rows))
        for name, rows in sorted(groups.items())}
    total = time.perf_counter() - self.start
    return dict(
      manifest=path, checkpoint=self.model.processor.source, selector=infer["selector"]["name"],
      frames=infer["sampling"].get("frames"), blind=self.blind, accuracy=mean(self.answers),
      questions=len(self.answers), videos=len(self.media), skipped=self.skipped,
      unparsed=sum(not row["parsed"] for row in self.answers), bad_media=self.bad, by=by,
      seconds={k: round(v, 3) for k, v in self.seconds.items()} | dict(total=round(total, 3)),
      compilations=self.compiled() - self.compilations, answers=self.answers)


def mean(rows: Sequence[Mapping[str, Any]]) -> float:
  """The mean score; 0 of nothing."""
  return sum(row["score"] for row in rows) / len(rows) if rows else 0.0
