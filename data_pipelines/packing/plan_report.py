# SPDX-License-Identifier: Apache-2.0
"""Figures of a plan, and the check that samples fit its rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.manifest.report import BadRecord
from data_pipelines.media.probe_table import ProbeTable
from data_pipelines.packing import planner
from data_pipelines.packing.corpus import Corpus
from data_pipelines.packing.demand import Demand
from data_pipelines.packing.planner import Planner
from data_pipelines.packing.sample_layout import Composer
from filax.spec import RowShape, dropout_stages
from filax.spec.dropout_stages import Stages

_MOST_NAMED = 1000  # Unwritable conversations with a reason: each is rendered again for it.


def unwritable_records(demand: Demand, composer: Composer, corpus: Corpus) -> list[BadRecord]:
  """The conversations that the chat template cannot write, with its reasons.

  Of many, only the first ones are named. Raises ValueError if it can write none at all.
  """
  numbers = np.flatnonzero(demand.unwritable)
  records = []
  for number in numbers[:_MOST_NAMED].tolist():
    sample = corpus.samples[number]
    reason = composer.writing_error(sample, number).removeprefix(f"{sample.origin}: ")
    records.append(BadRecord.at(sample.origin, reason))
  if len(numbers) and len(numbers) == len(demand):
    raise ValueError(
      f"The chat template of config.data.tokenizer can write none of the {len(numbers)} "
      f"conversations of config.data.train. The first is {records[0]}"
    )
  return records


def check_room(
  demand: Demand,
  shapes: Sequence[RowShape],
  stages: Stages,
  corpus: Corpus,
  too_long: str,
) -> None:
  """Checks that the samples fit the rows.

  Raises ValueError if a sample fits in no row, unless `too_long` is "skip" and others fit.
  """
  fits = planner.smallest_shape(demand, shapes) >= 0
  over = np.flatnonzero(~fits & ~demand.unwritable)
  some_fit = bool(fits.any())
  if some_fit and too_long == "skip":
    return
  if too_long not in ("skip", "error"):
    raise ValueError(f"config.data.too_long={too_long!r} is unknown. Set it to skip or error.")
  samples = corpus.samples
  if not len(samples):
    raise ValueError(_without_samples(corpus))
  if not len(over):
    return
  worst = over[0]
  if too_long == "skip":  # None fits: the shortest shows the smallest sufficient row.
    worst = over[demand.tokens[over].argmin()]
  largest = shapes[-1]
  message = f"{len(over)} of {len(demand)} samples fit in no row; {samples.origin(worst)}"
  reason = no_room_after_dropout(demand, worst, largest, stages)
  if reason:
    raise ValueError(f"{message}: {reason}")
  needed = (
    f"{demand.tokens[worst]} positions, {demand.frames[worst]} frames and "
    f"{demand.images[worst]} images"
  )
  remedy = "Set config.data.rows to larger rows"
  if some_fit:
    remedy += ", or config.data.too_long to skip"
  raise ValueError(
    f"{message} needs {needed}, and the longest row has {largest.length}, {largest.frames} and "
    f"{largest.images}. {remedy}."
  )


def _without_samples(corpus: Corpus) -> str:
  """The error message for a mixture of which nothing is left."""
  bad = corpus.report.bad
  if bad and not corpus.excluded:
    return (
      f"All {len(bad)} records of config.data.train are bad. The first is {bad[0]}; "
      "filax data check lists all of them."
    )
  return (
    "There are no samples. Set config.data.train to manifests that have some, and "
    "config.data.exclude to a list that leaves some."
  )


def no_room_after_dropout(demand: Demand, number: int, shape: RowShape, stages: Stages) -> str:
  """Why visual dropout leaves more of a sample than the row holds.

  "" if it does not, or if the sample is too large even before dropout.
  """
  if not stages:
    return ""
  sample = demand.take(np.array([number]))
  if not sample.fits_undropped(shape)[0]:
    return ""
  return dropout_stages.overflow_reason(sample.tokens_after[0], shape.room, stages)


def left_out_needs(over: Demand, shapes: Sequence[RowShape]) -> list[str]:
  """Which numbers of config.data.rows are too small for these samples."""
  needs = []
  for number, name in enumerate(("frames", "images", "length")):
    wanted = over.tokens if name == "length" else getattr(over, name)
    most = max(getattr(shape, name) for shape in shapes)
    larger = wanted > most
    if larger.any():
      unit = "positions" if name == "length" else name
      needs.append(
        f"{larger.sum()} need up to {wanted.max()} {unit} where config.data.rows has {most} "
        f"(number {number + 1} of a row)"
      )
  return needs


def plan_report(
  corpus: Corpus,
  probes: ProbeTable,
  rows: Planner,
  stages: Stages,
  unwritable: Sequence[BadRecord],
) -> dict[str, Any]:
  """Figures of epoch 0, for JSON."""
  samples = corpus.samples
  demand = rows.demand(0)
  written = demand.take(~demand.unwritable)
  epoch = rows.epoch(0)
  left_out = epoch.left_out[~demand.unwritable[epoch.left_out]]
  per_shape = np.bincount(epoch.shapes, minlength=len(rows.shapes)) * rows.batch
  too_long = []
  no_room = []
  for number in left_out:
    origin = samples.origin(number)
    too_long.append(origin)
    reason = no_room_after_dropout(demand, number, rows.shapes[-1], stages)
    if reason:
      no_room.append(f"{origin}: {reason}")
  most_frames = max(shape.frames for shape in rows.shapes)
  return dict(
    **planner.fill(epoch, demand, rows.shapes),
    samples=len(samples),
    bad_records=[str(bad) for bad in corpus.report.bad],
    unread=corpus.report.unread_sentences(),
    excluded=corpus.excluded,
    unwritable=len(demand) - len(written),
    unwritable_records=[str(record) for record in unwritable],
    too_long=too_long,
    no_room=no_room,
    needs=left_out_needs(demand.take(left_out), rows.shapes),
    unreadable=int(probes.unreadable.sum()),
    media=len(probes),
    rows=int(per_shape.sum()),
    rows_of_shape=per_shape.tolist(),
    suggest=planner.suggest_row(written, most_frames),
    mean_tokens=float(written.tokens.mean()),
    mean_frames=float(written.frames.mean()),
  )
