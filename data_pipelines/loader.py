# SPDX-License-Identifier: Apache-2.0
"""The data of a run as packed batches, in an order that one integer resumes.

The order depends on the data, the settings and the seed; threads, workers, processes and the place
where a run was stopped do not change it.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import math
import os
import pathlib
from typing import Any
import weakref

import numpy as np

from data_pipelines import workers
from data_pipelines.media import frames as video
from data_pipelines.media.cache import FrameCache
from data_pipelines.media.index import MediaIndex, check_readable, describe, media_of
from data_pipelines.media.open import LIMITS, Limits
from data_pipelines.packing import corpus, frame_sampling, ingredients
from data_pipelines.packing import planner as planning
from data_pipelines.packing.planner import Planner, PlanRow
from data_pipelines.packing.rows import Materialise
from data_pipelines.packing.sample_layout import Composer, is_image
from data_pipelines.text import templates, tokenizers
from filax import settings
from filax.spec import VisualLayout, dropout_stages

_ENDLESS = 1 << 48  # Rows; the epochs never end.
_DECIDE = ("template", "system", "labels", "time_prompt", "sampling", "images")  # Sizes and text.
_LAYOUT, _ROW = 5, 6  # Fields of a layout and a row that always decide; the rest is of dropout.


class Pipeline:
  """config.data, planned. Building it reads the manifests, looks at each medium once (remembered in
  config.data.cache, or beside `quarantine`) and measures every text; nothing is decoded.

  batch: packed rows of a global batch. quarantine: the JSONL file that lists unreadable media, None
  for none. blank: all pictures are grey (what is learnt from text alone). planned: what
  `ingredients["media"]` was when the run began, so that its plan stays (see MediaIndex).
  Attributes: `tokenizer`, `row_shapes` (the plan's buckets), `samples`, `probes`, `fingerprint`
  (sha256 of all that decides the rows), `report` (figures), `samples_per_row`, `token_fill`,
  `frame_fill` (of epoch 0), `suggest` (positions and frames of a row that suit these samples).
  Raises ValueError with one sentence for settings or data that cannot be.
  """

  def __init__(
    self,
    data: Mapping[str, Any],
    layout: VisualLayout,
    seed: int,
    batch: int,
    quarantine: str | os.PathLike | None = None,
    blank: bool = False,
    planned: Mapping[str, str] | None = None,
  ):
    self.data, self.layout, self.seed, self.batch = _plain(data), layout, seed, batch
    self.quarantine, self.blank = quarantine, blank
    data = self.data
    settings.check(dict(seed=seed, batch=batch, data=data))
    self.row_shapes = planning.row_shapes(data["rows"], layout.frames_per_group)
    self.limits = Limits(
      data["open_seconds"],
      data["decode_seconds"],
      image_pixels=data.get("image_pixels", LIMITS.image_pixels),
    )
    self.tokenizer = tokenizers.load(data["tokenizer"])
    self._corpus = found = corpus.read(data, seed)
    self.samples = found.samples
    _check_sampling(data["sampling"], layout, self.samples)
    folder = data["cache"] or (str(pathlib.Path(quarantine).parent / "index") if quarantine else "")
    media = media_of(self.samples)
    planned = planned or {}
    names = ingredients.media_names(media, data)
    index = MediaIndex(
      os.path.join(folder, "index.json") if folder else "",
      data["threads"],
      self.limits,
      planned={medium: planned[name] for medium, name in names.items() if name in planned},
    )
    self.probes = index.probes(media)
    if not blank:
      check_readable(self.probes)
    self._composer = Composer(data, layout, self.tokenizer, self.probes, seed)
    facts = dict(
      version=1,
      corpus=found.digest,
      tokenizer=self.tokenizer.fingerprint,
      layout=dataclasses.astuple(layout)[:_LAYOUT],
      **{k: data[k] for k in _DECIDE},
    )
    if layout.stages:
      facts |= dict(dropout=[dataclasses.astuple(s) for s in layout.stages], asks=layout.queries)
    self._sizes = corpus.Sizes(self._composer, self.samples, folder, self._measure_digest(facts))
    self.row_shapes = planning.with_dropout(self.row_shapes, layout, self._sizes(0))
    self._check(self._sizes(0))
    self._planner = Planner(
      self._sizes,
      self.row_shapes,
      batch=batch,
      seed=seed,
      packing=data["packing"],
      vary=self._composer.vary,
    )
    self.fingerprint = planning.fingerprint(
      **facts,
      seed=seed,
      batch=batch,
      packing=data["packing"],
      sizes=self._sizes(0),
      rows=[dataclasses.astuple(s)[: None if s.room else _ROW] for s in self.row_shapes],
    )
    self.report = self._report(found)

  @functools.cached_property
  def ingredients(self) -> dict[str, dict[str, str]]:
    """What decided the plan and is read by every process for itself, part by part."""
    return ingredients.ingredients(
      self.data, self._corpus, self.tokenizer, self.probes, self.fingerprint, self.row_shapes
    )

  def rows(self, epoch: int) -> int:
    """Rows of an epoch, a multiple of the batch."""
    return self._planner.rows(epoch)

  def row(self, number: int) -> PlanRow:
    """What is in a row, by its global number."""
    return self._planner.row(number)

  def steps(self, epochs: float) -> int:
    """Global batches in `epochs` times through the data; of a part of an epoch, rounded up."""
    whole = int(epochs)
    rows = self._planner.first(whole)
    if epochs > whole:
      rows += (epochs - whole) * self.rows(whole)
    return math.ceil(rows / self.batch)

  def materialise(self, seq_slice: tuple[int, int] = (0, 1)) -> Materialise:
    """The function from a plan's row to arrays."""
    read = video.read_frames
    if self.data["cache"] and not self.blank:
      read = FrameCache(self.data["cache"], self.layout.size).read_frames
    return Materialise(
      self._composer,
      self.samples,
      self.row_shapes,
      self.quarantine,
      read,
      self.limits,
      self.blank,
      seq_slice,
      self.data.get("resize", "squash"),
    )

  def batches(
    self,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    seq_slice: tuple[int, int] = (0, 1),
  ) -> "Batches":
    """Batches from global row `start` on, without end: dicts of `spec.BATCH` arrays [R ...].

    Of the `batch` rows of every global batch, a process gets the process_index-th of process_count
    equal runs; with `seq_slice` (i, n) the i-th of n parts of their frame slots. Raises ValueError
    if something does not divide.
    """
    if self.batch % process_count:
      raise ValueError(
        f"config.batch={self.batch} rows cannot be shared equally by {process_count} processes. "
        f"Set it to a multiple of {process_count}."
      )
    if start % self.batch:
      raise ValueError(
        f"Row {start} is not the first of a global batch of config.batch={self.batch} rows."
      )
    if uneven := [
      s.frames for s in self.row_shapes if s.frames % (self.layout.frames_per_group * seq_slice[1])
    ]:
      raise ValueError(
        f"A row of {uneven[0]} frames does not split into {seq_slice[1]} parts of whole groups of "
        f"{self.layout.frames_per_group}. Set config.data.rows to a multiple of "
        f"{self.layout.frames_per_group * seq_slice[1]} frames, or config.mesh.seq to a divisor."
      )
    local = self.batch // process_count
    rows = _Rows(self._planner, start + process_index * local, local, self.batch)
    return Batches(self._stream(rows, local, self.materialise(seq_slice)))

  def _stream(self, rows: "_Rows", local: int, materialise: Materialise):
    import grain

    ahead = max(1, self.data["prefetch"] * local)
    stream = (
      grain.MapDataset.source(rows)
      .map(materialise)
      .to_iter_dataset(
        grain.ReadOptions(num_threads=self.data["threads"], prefetch_buffer_size=ahead)
      )
    )
    if count := self.data["workers"]:
      _parse_flags()
      workers.start_tracker()
      stream = stream.mp_prefetch(
        grain.MultiprocessingOptions(num_workers=count, per_worker_buffer_size=-(-ahead // count)),
        workers.prepare,
      )
    # After the workers, else each would fill batches with its own rows alone.
    return iter(stream.batch(local, drop_remainder=True))

  def _measure_digest(self, facts: Mapping[str, Any]) -> str:
    """Of what the sizes of samples depend on."""
    media = {name: describe(probe) for name, probe in self.probes.items()}
    varying = dict(seed=self.seed) if self._composer.vary else {}
    return planning.fingerprint(
      **facts, **varying, media=sorted(media.items()), chat=templates.RULES
    )

  def _check(self, sizes: np.ndarray):
    """Raises ValueError if samples fit in no row and that is not wanted, or none fits."""
    over = np.flatnonzero(planning.smallest(sizes, self.row_shapes) < 0)
    if len(sizes) and len(over) < len(sizes) and self.data["too_long"] == "skip":
      return
    if self.data["too_long"] not in ("skip", "error"):
      raise ValueError(
        f"config.data.too_long={self.data['too_long']!r} is unknown. Set it to skip or error."
      )
    if not len(self.samples):
      raise ValueError(
        "There are no samples. Set config.data.train to manifests that have some, and "
        "config.data.exclude to a list that leaves some."
      )
    if not len(over):
      return
    worst = over[0] if self.data["too_long"] == "error" else over[sizes[over, 0].argmin()]
    tokens, frames, images = sizes[worst, :3]
    last = self.row_shapes[-1]
    if reason := self._no_room(sizes[worst]):
      raise ValueError(
        f"{len(over)} of {len(sizes)} samples fit in no row; {self.samples[worst].origin}: {reason}"
      )
    raise ValueError(
      f"{len(over)} of {len(sizes)} samples fit in no row; {self.samples[worst].origin} needs "
      f"{tokens} positions, {frames} frames and {images} images, and the longest row has "
      f"{last.length}, {last.frames} and {last.images}. Set config.data.rows to larger rows, or "
      "config.data.too_long to skip."
    )

  def _no_room(self, size: np.ndarray) -> str:
    """Why visual dropout leaves too much of a sample that otherwise fits; "" if that is not why."""
    last, stages = self.row_shapes[-1], self.layout.stages
    if not stages or (size[:3] > planning.capacity(last)[:3]).any():
      return ""
    return dropout_stages.fits(size[3 : 3 + len(stages)], last.room, stages)

  def _report(self, found: corpus.Corpus) -> dict[str, Any]:
    sizes, epoch = self._sizes(0), self._planner.epoch(0)
    full = planning.fill(epoch, sizes, self.row_shapes)
    self.samples_per_row = full["samples_per_row"]
    self.token_fill, self.frame_fill = full["token_fill"], full["frame_fill"]
    self.suggest = planning.suggest(sizes, max(s.frames for s in self.row_shapes))
    per_shape = np.bincount(epoch.shapes, minlength=len(self.row_shapes)) * self.batch
    return full | dict(
      samples=len(self.samples),
      bad_records=[str(bad) for bad in found.report.bad],
      excluded=found.excluded,
      too_long=[self.samples[n].origin for n in epoch.left_out],
      no_room=[
        f"{self.samples[n].origin}: {reason}"
        for n in epoch.left_out
        if (reason := self._no_room(sizes[n]))
      ],
      unreadable=sum(bool(probe.error) for probe in self.probes.values()),
      media=len(self.probes),
      rows=int(per_shape.sum()),
      rows_of_shape=per_shape.tolist(),
      suggest=self.suggest,
      mean_tokens=float(sizes[:, 0].mean()),
      mean_frames=float(sizes[:, 1].mean()),
    )


def _check_sampling(options: Mapping[str, Any], layout: VisualLayout, samples) -> None:
  """Raises ValueError if videos would not give whole groups, before any is looked at."""
  timelines = (timeline for sample in samples for timeline in sample.media)
  if any(not is_image(timeline) for timeline in timelines):
    minute = frame_sampling.Extent(duration=60.0, last=59.0, frames=60)
    frame_sampling.frame_count(options, minute, layout.frames_per_group)


class Batches(contextlib.AbstractContextManager):
  """An iterator over batches. `close` (or leaving a with block) ends its threads and workers; so
  does losing it, or the end of the program."""

  def __init__(self, stream):
    self._held = [stream]  # Emptied by _shut, even where a variable still holds this object.
    self._close = weakref.finalize(self, _shut, self._held)

  def __iter__(self):
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    if not self._held:
      raise StopIteration
    try:
      return next(self._held[0])
    except RuntimeError as error:
      workers.raise_if_ended(error)
      raise

  def close(self):
    """May be called twice."""
    self._close()

  def __exit__(self, *error):
    self.close()


def _shut(held: list):
  while held:
    held.pop().close()


class _Rows:
  """This process's rows in their order: element i is local row i % local of batch i // local."""

  def __init__(self, planner: Planner, first: int, local: int, batch: int):
    self.planner, self.first, self.local, self.batch = planner, first, local, batch

  def __len__(self) -> int:
    return _ENDLESS

  def __getitem__(self, i: int) -> PlanRow:
    return self.planner.row(self.first + i // self.local * self.batch + i % self.local)


@functools.cache
def _parse_flags():
  """grain's workers read absl's flags, which a program without absl.app never parses."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
  """A ConfigDict or dict as plain dicts: picklable, and free of the config's library."""
  return {k: _plain(v) if hasattr(v, "items") else v for k, v in data.items()}
