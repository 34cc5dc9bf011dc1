# SPDX-License-Identifier: Apache-2.0
"""Streams the rows of a plan as packed batches.

The plan fixes the order of the rows. The number of threads, workers and processes does not change
it, and neither does a restart: one integer, the number of the next row, resumes the stream.
"""

from collections.abc import Callable
import contextlib
import functools
import math
import weakref

import numpy as np

from data_pipelines import workers
from data_pipelines.media import frames as video
from data_pipelines.media.cache import FrameCache
from data_pipelines.packing.plan import Plan, make_plan
from data_pipelines.packing.planner import Planner, PlanRow
from data_pipelines.packing.rows import Materialise

__all__ = ["Batches", "Pipeline", "Plan", "make_plan"]

_ENDLESS = 1 << 48  # A number of rows that no run reaches: epochs follow one another without end.


class Pipeline:
  """Streams the batches of a plan."""

  def __init__(self, plan: Plan):
    self.plan = plan

  @property
  def fingerprint(self) -> str:
    """The plan's fingerprint: which samples are in which row."""
    return self.plan.fingerprint

  @property
  def ingredients(self) -> dict[str, dict[str, str]]:
    """The inputs that decided the plan, by part of the plan."""
    return self.plan.ingredients

  def steps(self, epochs: float) -> int:
    """The number of global batches in `epochs` epochs, rounded up."""
    return self.plan.step_count(epochs)

  def row(self, number: int) -> PlanRow:
    """The samples and shape of a row, by its global number."""
    return self.plan.row(number)

  def materialise(self, seq_slice: tuple[int, int] = (0, 1)) -> Materialise:
    """The function that turns a row of the plan into arrays."""
    plan = self.plan
    return Materialise(
      plan.composer,
      plan.samples,
      plan.row_shapes,
      plan.quarantine,
      self._frame_reader(),
      plan.limits,
      plan.blank,
      seq_slice,
      plan.data.get("resize", "squash"),
    )

  def _frame_reader(self) -> Callable[..., video.Frames]:
    """The frame reader, with the disk cache if one is configured."""
    folder = self.plan.data["cache"]
    if folder and not self.plan.blank:
      return FrameCache(folder, self.plan.layout.size).read_frames
    return video.read_frames

  def batches(
    self,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    seq_slice: tuple[int, int] = (0, 1),
  ) -> "Batches":
    """An endless stream of batches, beginning with the global row `start`.

    A batch is a dict of the arrays [R ...] of `spec.BATCH`. The rows of a global batch are divided
    into process_count equal parts of neighbouring rows, and this process gets part process_index.
    With seq_slice = (i, n), it decodes only the i-th of n parts of the frames of each row. Raises
    ValueError if the batch, the rows or the frames do not divide evenly.
    """
    batch = self.plan.batch
    if batch % process_count:
      raise ValueError(
        f"config.batch={batch} rows cannot be shared equally by {process_count} processes. "
        f"Set it to a multiple of {process_count}."
      )
    if start % batch:
      raise ValueError(
        f"Row {start} is not the first of a global batch of config.batch={batch} rows."
      )
    self._check_seq_parts(seq_slice[1])
    local = batch // process_count
    first = start + process_index * local
    rows = _LocalRows(self.plan.planner, first, local, batch)
    stream = self._stream(rows, local, self.materialise(seq_slice))
    return Batches(stream)

  def _check_seq_parts(self, parts: int) -> None:
    """Checks that the frames of a row divide into `parts` parts.

    A part must consist of whole groups and clips. Raises ValueError if it does not.
    """
    unit = self.plan.layout.frames_per_unit
    for shape in self.plan.row_shapes:
      if shape.frames % (unit * parts):
        raise ValueError(
          f"A row of {shape.frames} frames does not split into {parts} parts of whole groups of "
          f"{unit}. Set config.data.rows to a multiple of {unit * parts} frames, or "
          "config.mesh.seq to a divisor."
        )

  def _stream(self, rows: "_LocalRows", local: int, materialise: Materialise):
    """grain's iterator over batches of `local` rows."""
    import grain

    data = self.plan.data
    ahead = max(1, data["prefetch"] * local)  # Rows prepared in advance.
    options = grain.ReadOptions(num_threads=data["threads"], prefetch_buffer_size=ahead)
    stream = grain.MapDataset.source(rows).map(materialise).to_iter_dataset(options)
    count = data["workers"]
    if count:
      _parse_flags()
      workers.start_tracker()
      ahead_of_worker = math.ceil(ahead / count)
      stream = stream.mp_prefetch(
        grain.MultiprocessingOptions(num_workers=count, per_worker_buffer_size=ahead_of_worker),
        workers.prepare,
      )
    # Rows are batched after the workers; otherwise a batch would hold the rows of one worker.
    return iter(stream.batch(local, drop_remainder=True))


class Batches(contextlib.AbstractContextManager):
  """An iterator over batches, whose threads and workers can be stopped.

  They stop when `close` is called, when a with block ends, when this object is garbage-collected,
  and when the program ends.
  """

  def __init__(self, stream):
    # The stream is in a list, so that _end_streams can remove it without a reference to `self`.
    self._streams = [stream]
    self._end = weakref.finalize(self, _end_streams, self._streams)

  def __iter__(self):
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    if not self._streams:
      raise StopIteration
    try:
      return next(self._streams[0])
    except RuntimeError as error:
      workers.raise_if_ended(error)
      raise
    except OSError as error:
      workers.raise_if_no_shared_memory(error)
      raise

  def close(self):
    """Ends the stream. May be called twice."""
    self._end()

  def __exit__(self, *error):
    self.close()


def _end_streams(streams: list) -> None:
  while streams:
    streams.pop().close()


class _LocalRows:
  """The rows of this process, in order.

  Each global batch holds `local` rows of this process. Element i is the row number i % local of
  these rows in the global batch number i // local.
  """

  def __init__(self, planner: Planner, first: int, local: int, batch: int):
    self.planner = planner
    self.first = first
    self.local = local
    self.batch = batch

  def __len__(self) -> int:
    return _ENDLESS

  def __getitem__(self, i: int) -> PlanRow:
    batch, row = divmod(i, self.local)
    return self.planner.row(self.first + batch * self.batch + row)


@functools.cache
def _parse_flags() -> None:
  """Marks absl's flags as parsed.

  The workers of grain read these flags, and a program that does not use absl.app never parses them.
  """
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
