# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video against FiLA-Base: 96 frames merged to 32, and 64 frames unmerged.

  filax study fila_tokens --workdir runs/studies
  filax study fila_tokens:7b,root=data,init=runs --workdir runs/tokens

The paper claims (section 4 and the caption of Table 1): FiLA-Video is better than FiLA-Base with
half of the visual tokens. FiLA-Base is trained on 32 frames and answers from 64. The small world
has a quarter of each number.
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
  study,
)

SOURCE = "caption of Table 1"


def get_config(arg=None):
  arg = base.parse_arg(arg, **{"7b": False, "root": "data", "init": "runs"})
  name = "fila_tokens_7b" if arg["7b"] else "fila_tokens"
  s = study(name, "Merged frames against more tokens", "FiLA-Video, section 4 and Table 1.")
  columns = _large(s, arg) if arg["7b"] else _small(s)
  for column in columns:
    claim(s, column, "merged", "unmerged", SOURCE)
  return s


def _small(s):
  s.data = dict(kind="world", tasks=("shape", "colour"), held=120)
  small.add_fila(s, "weighted", small.fila_answer())
  small.add_fila(s, "unmerged", small.fila_answer("mean", frames=small.GROUPS))
  half = small.uniform(small.GROUPS, 1)
  more = small.uniform(2 * small.GROUPS, 1)
  add_cell(s, "half", "unmerged", "8 frames unmerged", infer=half, seconds=15.0)
  add_cell(s, "unmerged", "unmerged", "16 frames unmerged", infer=more, seconds=15.0)
  add_cell(s, "merged", "weighted", "24 frames merged to 8", infer=small.scenes(), seconds=15.0)
  add_questions(s, "held_out", HELD_OUT)
  add_column(s, "all", "held_out", paper="the benchmarks of Table 1")
  add_column(s, "short scenes", "held_out", "kind", "/short")
  add_column(s, "long scenes", "held_out", "kind", "/long")
  return ("all",)


def _large(s, arg):
  add_run(s, "weighted", large.fila(arg.init))
  add_run(s, "unmerged", large.fila_unmerged(arg.init))
  add_cell(s, "half", "unmerged", "32 frames unmerged", infer=large.even(32, 1))
  add_cell(s, "unmerged", "unmerged", "64 frames unmerged", infer=large.even(64, 1))
  add_cell(s, "merged", "weighted", "96 frames merged to 32", infer=large.selected("kmeans"))
  names = ("videomme", "mlvu", "longvideobench")
  large.ask_benchmarks(s, arg.root, names)
  return names
