# SPDX-License-Identifier: Apache-2.0
"""Packed batches a second from a corpus of tiny media of every kind."""

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side

BATCHES = 8


def _filax(rows: int, workers: int) -> Repetition:
  import time

  from benchmarks.scratch import empty_folder
  from filax.testing import corpora

  folder = corpora.write_corpus(empty_folder("corpus"))

  def stream_batches():
    pipeline = corpora.open_pipeline(folder, batch=rows, workers=workers, prefetch=2)
    with pipeline.batches(0) as batches:
      next(batches)  # The plan, and the start of the workers.
      start = time.perf_counter()
      for _ in range(BATCHES):
        next(batches)
      return dict(seconds=time.perf_counter() - start, amount=BATCHES)

  return stream_batches


ROWS = (
  BenchmarkRow(
    "packing",
    "packed batches of short videos, pictures and text",
    "batches/s",
    (Side(OURS, _filax),),
    shapes=(dict(rows=8, workers=0), dict(rows=8, workers=2)),
  ),
)
