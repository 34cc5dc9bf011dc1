# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video, Table 5 and Fig. 6: how much synthetic LongVideo is added.

  filax study fila_table5 --workdir runs/studies
  filax study fila_table5:7b,root=data,init=runs --workdir runs/table5

The models are trained on 32 evenly spaced frames without merging, the small ones on 8 (section 3.4
of the paper: the simplest sampling). All runs take the same number of steps.

In the small world the base data are questions about brief videos of two or three scenes. The
synthetic data are scene-by-scene captions of long videos that were joined from clips, in the same
proportion as in the paper. The small world has no subtitles.
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
  publish,
  study,
)

AMOUNTS = (0, 9, 20, 31, 42)  # Thousands of synthetic videos beside 334,000 samples.
BASE = 334
PAPER = {
  "without subtitles": (59.7, 60.2, 60.7, 61.0, 61.0),
  "with subtitles": (58.9, 63.4, 63.1, 62.6, 63.1),
  "MLVU": (65.8, 65.2, 66.0, 66.9, 66.4),
}
SOURCE = "Table 5"
PER_FILE = 24  # Records of base data for each of 300 files.


def get_config(arg=None):
  arg = base.parse_arg(arg, **{"7b": False, "root": "data", "init": "runs"})
  name = "fila_table5_7b" if arg["7b"] else "fila_table5"
  s = study(name, "Amount of synthetic long videos", "FiLA-Video, Table 5 and Fig. 6.")
  s.axis = "thousand synthetic videos"
  columns = _large(s, arg) if arg["7b"] else _small(s)
  cells = [_cell(amount) for amount in AMOUNTS]
  for column, key in columns.items():
    numbers = PAPER[key]
    publish(s, column, dict(zip(cells, numbers, strict=True)))
    for cell, number in zip(cells[1:], numbers[1:], strict=True):
      higher, lower = (cell, cells[0]) if number > numbers[0] else (cells[0], cell)
      claim(s, column, higher, lower, SOURCE)
  s.lines = (("synthetic videos", tuple(zip(map(float, AMOUNTS), cells, strict=True))),)
  return s


def _cell(amount: int) -> str:
  return f"plus{amount}k"


def _title(amount: int) -> str:
  return f"base + {amount}k" if amount else "base"


def _small(s):
  s.note = "A share of the base data is added in captions, as in the paper: 9 of 334 and so on."
  samples = PER_FILE * 300
  captions = round(samples * AMOUNTS[-1] / BASE)
  s.data = dict(
    kind="world",
    tasks=("shape", "colour", "order"),
    held=120,
    brief=PER_FILE,
    captions=captions,
    joined=1,
    described=0.0,
  )
  infer = small.uniform(small.GROUPS, 1)
  for amount in AMOUNTS:
    c = small.fila_answer("mean", frames=small.GROUPS)
    c.data.train = ((small.BRIEF, "all"),)
    if amount:
      count = round(samples * amount / BASE)
      c.data.train = (*c.data.train, (small.CAPTIONS, f"first:{count}"))
    name = _cell(amount)
    small.add_fila(s, name, c)
    add_cell(s, name, name, _title(amount), infer=infer, seconds=15.0)
  add_questions(s, "held_out", HELD_OUT)
  add_column(s, "all", "held_out", paper="VideoMME without subtitles")
  add_column(s, "short scenes", "held_out", "kind", "/short", paper="MLVU")
  add_column(s, "order", "held_out", "kind", "^order")
  return {"all": "without subtitles", "short scenes": "MLVU"}


def _large(s, arg):
  for amount in AMOUNTS:
    c = large.fila_unmerged(arg.init)
    if amount:
      synthetic = (f"{arg.root}/longvideo.json", f"first:{1000 * amount}")
      c.data.train = (*c.data.train, synthetic)
    name = _cell(amount)
    add_run(s, name, c)
    add_cell(s, name, name, _title(amount), infer=large.even(32, 1))
  large.ask_benchmarks(s, arg.root, ("videomme", "videomme_subtitles", "mlvu"))
  return {
    "videomme": "without subtitles",
    "videomme_subtitles": "with subtitles",
    "mlvu": "MLVU",
  }
