# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video, Table 2: how scenes are selected, on one trained model.

  filax study fila_table2 --workdir runs/studies
  filax study fila_table2:varied --workdir runs/studies  # Trained as `small.vary` says.
  filax study fila_table2:7b,root=data,init=runs --workdir runs/table2
  filax study fila_table2:7b,root=data,checkpoint=runs/fila_stage4 --workdir runs/table2

Scenes are selected only when answering. The paper uses benchmarks of long videos. In the small
world, questions about short scenes (3 to 5 seconds in a video of minutes) stand for MLVU, which
asks about single events, and questions about long scenes stand for VideoMME. This assignment was
made before any run.
"""

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

TITLES = dict(
  uniform="Uniform sampling",
  bsm="Bipartite soft matching",
  dissimilar="K-Means, dissimilar frames",
  similar="K-Means, similar frames",
)
PAPER = dict(
  long=dict(uniform=51.0, bsm=48.4, dissimilar=51.4, similar=51.6),
  mlvu=dict(uniform=65.9, bsm=67.5, dissimilar=67.4, similar=67.5),
)
SOURCE = "Table 2"
PAIRS = (("similar", "uniform"), ("dissimilar", "uniform"), ("bsm", "uniform"))


def get_config(arg=None):
  known = {"7b": False, "root": "data", "init": "runs", "checkpoint": "", "varied": False}
  arg = base.parse_arg(arg, **known)
  name = "fila_table2_7b" if arg["7b"] else "fila_table2"
  s = study(name, "Scene selection", "FiLA-Video, Table 2.")
  columns = _large(s, arg) if arg["7b"] else _small(s)
  if arg.varied:
    small.vary(s, "weighted")
  for column, numbers in zip(columns, PAPER.values(), strict=True):
    publish(s, column, numbers)
    claim_published(s, column, PAIRS, SOURCE)
  claim_published(s, columns[0], (("similar", "dissimilar"), ("similar", "bsm")), SOURCE)
  claim_published(s, columns[1], (("similar", "dissimilar"),), SOURCE)
  return s


def _small(s):
  s.note = "Short scenes stand for MLVU, long ones for VideoMME's long videos."
  s.data = dict(kind="world", tasks=("shape", "colour"), held=120)
  small.add_fila(s, "weighted", small.fila_answer())
  selections = dict(
    uniform=small.uniform(small.GROUPS * small.SIZE),
    bsm=small.matched(),
    dissimilar=small.scenes("dissimilar"),
    similar=small.scenes(),
  )
  for cell, infer in selections.items():
    add_cell(s, cell, "weighted", TITLES[cell], infer=infer, seconds=15.0)
  add_questions(s, "held_out", HELD_OUT)
  add_column(s, "long scenes", "held_out", "kind", "/long", "VideoMME Long")
  add_column(s, "short scenes", "held_out", "kind", "/short", "MLVU")
  add_column(s, "all", "held_out")
  return "long scenes", "short scenes"


def _large(s, arg):
  source = dict(checkpoint=arg.checkpoint)
  if not arg.checkpoint:
    add_run(s, "weighted", large.fila(arg.init))
    source = dict(run="weighted")
  selections = dict(
    uniform=large.even(96),
    bsm=large.selected("bsm"),
    dissimilar=large.selected("kmeans", history="dissimilar"),
    similar=large.selected("kmeans"),
  )
  for cell, infer in selections.items():
    add_cell(s, cell, title=TITLES[cell], infer=infer, **source)
  large.ask_benchmarks(s, arg.root, ("videomme", "mlvu"))
  large.add_durations(s, ("long",))
  return "VideoMME long", "mlvu"
