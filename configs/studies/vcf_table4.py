# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash, Table 4: bounds on the frames of a video, in training and in answering.

  filax study vcf_table4 --workdir runs/studies
  filax study vcf_table4:varied --workdir runs/studies  # Trained as `small.vary_vcf` says.
  filax study vcf_table4:7b,root=data,init=runs --workdir runs/table4

The small world has half of each number of frames. Its questions about motion stand for MVBench,
which asks about brief, fine actions; its other questions stand for VideoMME. The training of every
row starts from one model that learned to answer from 32 frames.
"""

from typing import NamedTuple

from filax.configs import common as base
from filax.configs.studies import large, small
from filax.configs.studies.common import (
  HELD_OUT,
  add_cell,
  add_column,
  add_questions,
  add_run,
  claim_published,
  publish,
  study,
)


class FrameBounds(NamedTuple):
  """A row of the table: bounds on frames, and the scores of the paper."""

  low: int  # Fewest and most frames of a video in training,
  high: int
  asked_low: int  # and in answering.
  asked_high: int
  mvbench: float
  videomme: float


ROWS = (
  FrameBounds(8, 64, 64, 64, 68.1, 58.0),
  FrameBounds(32, 64, 64, 64, 70.2, 57.9),
  FrameBounds(64, 64, 64, 64, 71.0, 58.3),
  FrameBounds(64, 128, 64, 64, 71.4, 58.8),
  FrameBounds(64, 128, 64, 128, 71.7, 59.3),
  FrameBounds(64, 128, 128, 128, 70.9, 60.3),
  FrameBounds(128, 128, 64, 64, 70.9, 58.0),
  FrameBounds(128, 128, 128, 128, 71.4, 58.3),
)
SOURCE = "Table 4"
STEPS = 400


def get_config(arg=None):
  known = {"7b": False, "root": "data", "init": "runs", "varied": False}
  arg = base.parse_arg(arg, **known)
  name = "vcf_table4_7b" if arg["7b"] else "vcf_table4"
  s = study(name, "Bounds on sampled frames", "VideoChat-Flash (arXiv:2501.00574), Table 4.")
  columns = _large(s, arg) if arg["7b"] else _small(s)
  if arg.varied:
    small.vary_vcf(s, "vcf_answer32")
  cells = [_cell(row) for row in ROWS]
  fine, overall = columns
  publish(s, fine, {_cell(row): row.mvbench for row in ROWS})
  publish(s, overall, {_cell(row): row.videomme for row in ROWS})
  # A lower bound in training helps brief videos; a range beats fixed numbers on long ones.
  claim_published(s, fine, ((cells[1], cells[0]), (cells[2], cells[0])), SOURCE)
  ranged = cells[5]  # Trained on 64 to 128 frames, asked with 128.
  against_fixed = tuple((ranged, cells[place]) for place in (2, 3, 6, 7))
  claim_published(s, overall, against_fixed, SOURCE)
  claim_published(s, overall, ((cells[4], cells[3]), (cells[5], cells[4])), SOURCE)
  return s


def _cell(row: FrameBounds) -> str:
  return f"train{row.low}-{row.high}_ask{row.asked_low}-{row.asked_high}"


def _title(row: FrameBounds) -> str:
  return f"train {row.low} to {row.high}, ask {row.asked_low} to {row.asked_high}"


def _small(s):
  s.note = "Frames are half of those in the names of rows."
  s.data = dict(
    kind="world",
    tasks=("shape", "colour", "motion"),
    held=120,
    held_seconds=(30.0, 180.0),
    brief=6,
  )
  see, answer, more = small.VCF_SECONDS
  add_run(s, "vcf_see", small.vcf_see(), seconds=see)
  add_run(s, "vcf_answer32", small.vcf_answer(32), after="vcf_see", seconds=answer / 2)
  trained = set()
  for row in ROWS:
    low, high, asked_low, asked_high = (number // 2 for number in row[:4])
    run = f"vcf_train{low}-{high}"
    if run not in trained:
      trained.add(run)
      c = small.vcf_answer(high, steps=STEPS)
      small.set_frames(c, high, low)
      c.data.train = ((small.TRAIN, "all"), (small.BRIEF, "all"))
      add_run(s, run, c, after="vcf_answer32", seconds=more)
    infer = dict(sampling=small.dynamic(asked_high, asked_low))
    add_cell(s, _cell(row), run, _title(row), infer=infer, seconds=15.0)
  add_questions(s, "held_out", HELD_OUT)
  add_column(s, "motion", "held_out", "kind", "^motion", "MVBench")
  add_column(s, "shape and colour", "held_out", "kind", "^(shape|colour)", "VideoMME")
  return "motion", "shape and colour"


def _large(s, arg):
  trained = set()
  for row in ROWS:
    run = f"train{row.low}-{row.high}"
    if run not in trained:
      trained.add(run)
      c = large.vcf(arg.init)
      c.data.sampling = large.dynamic(row.high, row.low)
      add_run(s, run, c)
    infer = dict(sampling=large.dynamic(row.asked_high, row.asked_low))
    add_cell(s, _cell(row), run, _title(row), infer=infer)
  large.ask_benchmarks(s, arg.root, ("mvbench", "videomme"))
  return "mvbench", "videomme"
