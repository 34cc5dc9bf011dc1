# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash, Fig. 8: half of the visual tokens dropped after each layer.

  filax study vcf_fig8 --workdir runs/studies
  filax study vcf_fig8:varied --workdir runs/studies  # Trained as `small.vary_vcf` says.
  filax study vcf_fig8:7b,root=data,checkpoint=released --workdir runs/fig8

`filax analyze redundancy` takes the same measurement for one checkpoint and one manifest. The
paper claims (section 6.2):

- The deeper the layer after which tokens are dropped, the better the score.
- At two thirds of the depth, the score is above that without dropout.
- In the shallow layers, uniform dropout is better than dropout by attention.
"""

from filax.configs import common as base
from filax.configs.studies import large, small
from filax.configs.studies.common import (
  HELD_OUT,
  add_cell,
  add_column,
  add_questions,
  claim,
  study,
)

SOURCE = "section 6.2"
KINDS = ("uniform", "attention")
LAYERS = (1, 2, 3, 4, 5)  # Of 6.
LARGE_LAYERS = (2, 4, 8, 12, 16, 18, 20, 24)  # Of 28.


def get_config(arg=None):
  known = {"7b": False, "root": "data", "init": "runs", "checkpoint": "", "varied": False}
  arg = base.parse_arg(arg, **known)
  name = "vcf_fig8_7b" if arg["7b"] else "vcf_fig8"
  s = study(name, "Redundancy by layer", "VideoChat-Flash (arXiv:2501.00574), Fig. 8.")
  layers = LARGE_LAYERS if arg["7b"] else LAYERS
  source = large.add_vcf(s, arg) if arg["7b"] else small.add_deep(s)
  if arg.varied:
    small.vary_vcf(s, "deep")
  seconds = 0.0 if arg["7b"] else 20.0
  add_cell(s, "none", title="all tokens", dropout="off", seconds=seconds, **source)
  for kind in KINDS:
    points = []
    for layer in layers:
      cell = f"{kind}{layer}"
      points.append((float(layer), cell))
      dropout = f"{layer}:{kind}:0.5"
      title = f"{kind} after layer {layer}"
      add_cell(s, cell, title=title, dropout=dropout, seconds=seconds, **source)
    s.lines = (*s.lines, (kind, tuple(points)))
  s.axis = "dropped after layer"
  columns = _large(s, arg) if arg["7b"] else _small(s)
  shallow, deep = (4, 18) if arg["7b"] else (1, 4)
  for column in columns:
    for kind in KINDS:
      claim(s, column, f"{kind}{deep}", f"{kind}{shallow}", SOURCE)
      claim(s, column, f"{kind}{deep}", "none", SOURCE)
    claim(s, column, f"uniform{shallow}", f"attention{shallow}", SOURCE)
  return s


def _small(s):
  add_questions(s, "held_out", HELD_OUT)
  add_column(s, "all", "held_out", paper="long video benchmarks")
  return ("all",)


def _large(s, arg):
  names = ("mlvu", "videomme")
  large.ask_benchmarks(s, arg.root, names)
  return names
