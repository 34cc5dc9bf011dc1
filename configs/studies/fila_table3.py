# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video, Table 3: how the frames of a group are merged; one trained model per merger.

  filax study fila_table3 --workdir runs/studies
  filax study fila_table3:varied --workdir runs/studies  # Trained as `small.vary` says.
  filax study fila_table3:7b,root=data,init=runs --workdir runs/table3

The baseline has the same number of visual tokens, but does not merge frames. Frames are evenly
spaced in training and in answering, as in the paper. Weighted fusion is also trained at two stages
that the paper does not try: after the projector's layers, and after its pooling.
"""

from filax.configs import common as base
from filax.configs.studies import large, small
from filax.configs.studies.common import (
  HELD_OUT,
  add_cell,
  add_column,
  add_questions,
  add_run,
  claim,
  claim_published,
  publish,
  study,
)

MERGERS = dict(  # Cell -> title, merger, stage at which it merges.
  attention=("Attention pooling", "attention", "vision"),
  mean=("Temporal averaging", "mean", "vision"),
  bsm=("Bipartite soft matching", "bsm", "pool"),
  weighted=("Weighted fusion", "weighted", "vision"),
  weighted_projector=("Weighted fusion after the projector", "weighted", "projector"),
  weighted_pool=("Weighted fusion after pooling", "weighted", "pool"),
)
BASELINE = "Uniform sampling, unmerged"
SOURCE = "Table 3"
ROWS = ("baseline", "attention", "mean", "bsm", "weighted")
PAPER = dict(
  Short=(71.8, 72.9, 73.4, 73.6, 73.1),
  Medium=(58.4, 58.8, 59.3, 59.4, 59.4),
  Long=(49.0, 50.7, 50.2, 49.4, 51.0),
  Overall=(59.7, 60.8, 61.0, 60.8, 61.2),
)
MERGED_ABOVE_BASELINE = tuple((cell, "baseline") for cell in ROWS[1:])


def get_config(arg=None):
  known = {"7b": False, "root": "data", "init": "runs", "varied": False}
  arg = base.parse_arg(arg, **known)
  name = "fila_table3_7b" if arg["7b"] else "fila_table3"
  s = study(name, "Scene merging", "FiLA-Video, Table 3 (VideoMME without subtitles).")
  columns = _large(s, arg) if arg["7b"] else _small(s)
  if arg.varied:
    small.vary(s, "unmerged", *MERGERS)
  for column, numbers in zip(columns, PAPER.values(), strict=True):
    publish(s, column, dict(zip(ROWS, numbers, strict=True)))
  short, _, long, overall = columns
  for column in columns:
    claim_published(s, column, MERGED_ABOVE_BASELINE, SOURCE)
  for other in ("attention", "mean", "weighted"):
    claim(s, short, "bsm", other, SOURCE)
  for column in (long, overall):
    for other in ("attention", "mean", "bsm"):
      claim(s, column, "weighted", other, SOURCE)
  return s


def _small(s):
  s.note = "The groups Short, Medium and Long are videos below 45 s, below 100 s, and longer."
  s.data = dict(
    kind="world",
    tasks=("shape", "colour"),
    held=160,
    held_seconds=(30.0, 180.0),
    length_bounds=(45.0, 100.0),
  )
  small.add_fila(s, "unmerged", small.fila_answer("mean", frames=small.GROUPS))
  infer = small.uniform(small.GROUPS, 1)
  add_cell(s, "baseline", "unmerged", BASELINE, infer=infer, seconds=15.0)
  for cell, (title, merger, stage) in MERGERS.items():
    small.add_fila(s, cell, small.fila_answer(merger, stage))
    infer = small.uniform(small.GROUPS * small.SIZE)
    add_cell(s, cell, cell, title, infer=infer, seconds=15.0)
  add_questions(s, "held_out", HELD_OUT)
  for group in ("Short", "Medium", "Long"):
    add_column(s, group, "held_out", "kind", f"/{group}$", f"VideoMME {group}")
  add_column(s, "Overall", "held_out", paper="VideoMME Overall")
  return tuple(PAPER)


def _large(s, arg):
  add_run(s, "unmerged", large.fila_unmerged(arg.init))
  add_cell(s, "baseline", "unmerged", BASELINE, infer=large.even(32, 1))
  for cell, (title, merger, stage) in MERGERS.items():
    add_run(s, cell, large.fila(arg.init, merger, stage))
    add_cell(s, cell, cell, title, infer=large.even(96))
  large.ask_benchmarks(s, arg.root, ("videomme",))
  large.add_durations(s, ("short", "medium", "long"))
  return "VideoMME short", "VideoMME medium", "VideoMME long", "videomme"
