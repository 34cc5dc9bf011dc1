# SPDX-License-Identifier: Apache-2.0
"""Collects what a run trains on.

These are samples with frames and tokens, rows, and what was left out.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import os
import pathlib
import tempfile

import numpy as np

from data_pipelines.mapped import map_array
from data_pipelines.packing import planner
from data_pipelines.packing.demand import Demand
from data_pipelines.packing.plan import Plan
from data_pipelines.packing.planner import PlanRow
from data_pipelines.packing.rows import Materialise
from data_pipelines.packing.sample_layout import TimelineLayout
from data_pipelines.sample import Sample, Timeline
from data_pipelines.tools.view_tokens import Piece, learned_tokens, token_pieces
from filax.spec import RowShape

MOST_PICTURES = 24  # If a sample has more pictures, evenly spaced ones are shown.
MOST_EXAMPLES = 50  # The most examples of each reason for leaving samples out.


@dataclasses.dataclass(frozen=True)
class ShownPicture:
  """A picture as the model gets it: u8 [h w 3]."""

  pixels: np.ndarray
  caption: str


@dataclasses.dataclass(frozen=True)
class ShownSample:
  """A sample as it is trained on."""

  number: int
  id: str
  origin: str
  media: Sequence[str]
  pieces: Sequence[Piece]
  tokens: int
  learned: int
  times: Sequence[float]  # Seconds of all frames.
  images: int
  pictures: Sequence[ShownPicture]
  problem: str  # Why it is left out or masked; "" if it is learned.


@dataclasses.dataclass(frozen=True)
class ShownSegment:
  """A sample's share of a row."""

  origin: str
  tokens: int
  frames: int
  images: int


@dataclasses.dataclass(frozen=True)
class ShownRow:
  """A packed row of the first epoch."""

  number: int
  shape: RowShape
  segments: Sequence[ShownSegment]


@dataclasses.dataclass(frozen=True)
class LeftOut:
  """Samples that are not learned, for one reason."""

  reason: str
  count: int
  examples: Sequence[str]


@dataclasses.dataclass(frozen=True)
class DataView:
  """What a page about the data shows."""

  plan: Plan
  samples: Sequence[ShownSample]
  rows: Sequence[ShownRow]
  left_out: Sequence[LeftOut]

  @property
  def not_learned(self) -> int:
    """Records that are not learned."""
    return sum(reason.count for reason in self.left_out)


def view_plan(plan: Plan, samples: int, rows: int) -> DataView:
  """Some samples of a plan, evenly spread, and its first rows."""
  with tempfile.TemporaryDirectory(prefix="filax-view-") as folder:
    quarantine = pathlib.Path(folder, "quarantine.jsonl")
    numbers = np.unique(np.linspace(0, len(plan.samples) - 1, samples).round().astype(int))
    shown = []
    for number in numbers.tolist():
      shown.append(_shown_sample(plan, number, quarantine))
  packed = []
  for number in range(min(rows, plan.row_count(0))):
    packed.append(_shown_row(plan, number))
  return DataView(plan, shown, packed, list(left_out(plan)))


def left_out(plan: Plan) -> Iterator[LeftOut]:
  """Why samples are not learned; reasons without samples are left out."""
  bad = plan.corpus.report.bad
  reasons = [
    LeftOut("Bad records", len(bad), list(map(str, bad[:MOST_EXAMPLES]))),
    LeftOut("Excluded by config.data.exclude", plan.corpus.excluded, ()),
    _too_long(plan),
    _unwritable(plan),
    _unreadable(plan),
  ]
  for reason in reasons:
    if reason.count:
      yield reason


def _too_long(plan: Plan) -> LeftOut:
  demand = plan.planner.demand(0)
  left_out = plan.planner.epoch(0).left_out
  numbers = left_out[~demand.unwritable[left_out]]
  examples = []
  for number in numbers[:MOST_EXAMPLES].tolist():
    needed = _demand_words(demand, number)
    examples.append(f"{plan.corpus.samples.origin(number)}: {needed}")
  return LeftOut(f"Too large for the rows: {_largest(plan)}", len(numbers), examples)


def _unwritable(plan: Plan) -> LeftOut:
  examples = plan.report["unwritable_records"][:MOST_EXAMPLES]
  count = plan.report["unwritable"]
  return LeftOut("The tokenizer's chat template cannot write them", count, examples)


def _unreadable(plan: Plan) -> LeftOut:
  """Samples with a medium that cannot be read: they are masked."""
  table = plan.corpus.samples
  first = np.asarray(map_array(table.folder, "media_first"), np.int64)
  uses = plan.probes.unreadable[np.asarray(map_array(table.folder, "media_ids"), np.int64)]
  so_far = np.concatenate([[0], np.cumsum(uses)])
  masked = np.flatnonzero(so_far[first[1:]] > so_far[first[:-1]])
  examples = []
  for number in masked[:MOST_EXAMPLES].tolist():
    sample = plan.samples[number]
    examples.append(f"{sample.origin}: {_media_error(plan, sample)}")
  return LeftOut("Masked: a medium cannot be read", len(masked), examples)


def _shown_sample(plan: Plan, number: int, quarantine: pathlib.Path) -> ShownSample:
  sample = plan.samples[number]
  layouts = plan.composer.timeline_layouts(sample, number, 0)
  times = _seconds(layouts)
  problem = plan.composer.writing_error(sample, number)
  encoded = None if problem else plan.composer.encode_text(sample, layouts)
  problem = problem or _media_error(plan, sample)
  pictures: list[ShownPicture] = []
  demand = plan.planner.demand(0)
  bucket = int(planner.smallest_shape(demand.take(np.array([number])), plan.row_shapes)[0])
  if bucket < 0 and encoded is not None:
    needed = _demand_words(demand, number)
    problem = problem or f"Too large: it needs {needed}; the rows hold {_largest(plan)}."
  elif not problem:
    row, problem = _read_sample(plan, number, plan.row_shapes[bucket], quarantine)
    if not problem:
      pictures = list(_pictures(plan, number, row))
      times = row["frame_times"].tolist()
  return ShownSample(
    number=number,
    id=sample.id,
    origin=sample.origin,
    media=list(map(_timeline_words, sample.media)),
    pieces=[] if encoded is None else list(token_pieces(encoded, plan.tokenizer)),
    tokens=0 if encoded is None else len(encoded.tokens),
    learned=0 if encoded is None else learned_tokens(encoded),
    times=times,
    images=sum(layout.images for layout in layouts),
    pictures=pictures,
    problem=problem,
  )


def _seconds(layouts: Sequence[TimelineLayout]) -> list[float]:
  """The planned times of all frames."""
  times: list[float] = []
  for layout in layouts:
    times += layout.times.tolist()
  return times


def _read_sample(
  plan: Plan, number: int, shape: RowShape, quarantine: pathlib.Path
) -> tuple[dict[str, np.ndarray], str]:
  """(arrays of a row with this sample alone, why it is masked)."""
  demand = plan.planner.demand(0)
  alone = dataclasses.replace(
    shape,
    frames=int(demand.frames[number]),
    images=int(demand.images[number]),
    length=int(demand.tokens[number]),
    segments=1,
  )
  quarantine.unlink(missing_ok=True)
  materialise = Materialise(
    plan.composer,
    plan.samples,
    (alone,),
    quarantine,
    limits=plan.limits,
    resize=plan.data.get("resize", "squash"),
  )
  row = materialise(PlanRow(0, 0, 0, (number,)))
  if not row["num_bad"]:
    return row, ""
  with open(quarantine, encoding="utf-8") as file:
    return row, json.loads(file.readline())["error"]


def _pictures(plan: Plan, number: int, row: dict[str, np.ndarray]) -> Iterator[ShownPicture]:
  """An even choice of the pictures of a row with one sample."""
  group = plan.composer.layout.frames_per_group
  for place in _even_choice(len(row["frames"])):
    second = float(row["frame_times"][place])
    caption = f"{second:.2f} s"
    if group > 1:
      caption += f" · group {place // group + 1}"
    yield ShownPicture(row["frames"][place], caption)
  for place in _even_choice(len(row["images"])):
    yield ShownPicture(row["images"][place], f"picture {place + 1}")


def _even_choice(count: int) -> list[int]:
  most = min(count, MOST_PICTURES)
  return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist() if count else []


def _shown_row(plan: Plan, number: int) -> ShownRow:
  row = plan.row(number)
  demand = plan.planner.demand(0)
  segments = []
  for sample in row.samples:
    segments.append(
      ShownSegment(
        plan.corpus.samples.origin(sample),
        int(demand.tokens[sample]),
        int(demand.frames[sample]),
        int(demand.images[sample]),
      )
    )
  return ShownRow(number, plan.row_shapes[row.shape], segments)


def _media_error(plan: Plan, sample: Sample) -> str:
  """The first error of a sample's media; "" for none."""
  for timeline in sample.media:
    for scene in timeline:
      error = plan.probes[scene.media].error
      if error:
        return error
  return ""


def _timeline_words(timeline: Timeline) -> str:
  """The media of a timeline and their shown parts."""
  words = []
  for scene in timeline:
    text = os.path.basename(scene.media)
    if scene.kind != "image" and (scene.t0 or scene.t1 is not None):
      stop = "end" if scene.t1 is None else f"{scene.t1:g} s"
      text += f" ({scene.t0:g} s to {stop})"
    words.append(text)
  return " + ".join(words)


def _demand_words(demand: Demand, number: int) -> str:
  return (
    f"{demand.tokens[number]:,} tokens, {demand.frames[number]:,} frames and "
    f"{demand.images[number]:,} pictures"
  )


def _largest(plan: Plan) -> str:
  """What the largest row holds."""
  shape = plan.row_shapes[-1]
  return f"{shape.length:,} tokens, {shape.frames:,} frames and {shape.images:,} pictures"
