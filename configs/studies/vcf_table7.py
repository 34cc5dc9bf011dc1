# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash, Table 7: visual dropout by kind, layer and share, on one trained model.

  filax study vcf_table7 --workdir runs/studies
  filax study vcf_table7:varied --workdir runs/studies  # Trained as `small.vary_vcf` says.
  filax study vcf_table7:7b,root=data,init=runs --workdir runs/table7
  filax study vcf_table7:7b,root=data,checkpoint=released --workdir runs/table7

The paper drops tokens after layers 4 and 18 of 28. The small model has 6 layers, and drops tokens
after layers 1 and 4.
"""

from filax.configs import common as base
from filax.configs.studies import large, small
from filax.configs.studies.common import (
  HELD_OUT,
  add_cell,
  add_column,
  add_questions,
  claim_published,
  publish,
  study,
)

SOURCE = "Table 7"
# Title, dropout with {0} for the shallow and {1} for the deep layer, MLVU, VideoMME.
CELLS: dict[str, tuple] = dict(
  none=("no dropout", "off", 71.8, 61.2),
  uniform_shallow=("uniform/0.5, shallow", "{0}:uniform:0.5", 71.2, 60.4),
  attention_shallow=("attention/0.5, shallow", "{0}:attention:0.5", 70.7, 60.8),
  uniform_deep=("uniform/0.5, deep", "{1}:uniform:0.5", 71.7, 61.8),
  attention_deep=("attention/0.5, deep", "{1}:attention:0.5", 72.1, 61.7),
  attention_both=("attention/0.75, /0.25", "{0}:attention:0.75,{1}:attention:0.25", 71.4, 60.9),
  mixed=("uniform/0.75, attention/0.25", "{0}:uniform:0.75,{1}:attention:0.25", 72.0, 61.1),
)
PAIRS = (
  ("uniform_shallow", "attention_shallow"),
  ("uniform_deep", "attention_deep"),
  ("uniform_shallow", "uniform_deep"),
  ("attention_shallow", "attention_deep"),
  ("none", "uniform_shallow"),
  ("none", "attention_deep"),
  ("mixed", "attention_both"),
)


def get_config(arg=None):
  known = {"7b": False, "root": "data", "init": "runs", "checkpoint": "", "varied": False}
  arg = base.parse_arg(arg, **known)
  name = "vcf_table7_7b" if arg["7b"] else "vcf_table7"
  s = study(name, "Visual dropout", "VideoChat-Flash (arXiv:2501.00574), Table 7.")
  layers = (4, 18) if arg["7b"] else (1, 4)
  source = large.add_vcf(s, arg) if arg["7b"] else small.add_deep(s)
  if arg.varied:
    small.vary_vcf(s, "deep")
  for cell, (title, dropout, *_) in CELLS.items():
    seconds = 0.0 if arg["7b"] else 20.0
    dropout = dropout.format(*layers)
    add_cell(s, cell, title=title, dropout=dropout, seconds=seconds, **source)
  columns = _large(s, arg) if arg["7b"] else _small(s)
  for column, place in zip(columns, (2, 3), strict=True):
    publish(s, column, {cell: row[place] for cell, row in CELLS.items()})
    claim_published(s, column, PAIRS, SOURCE)
  return s


def _small(s):
  s.note = "Short scenes stand for MLVU, all questions for VideoMME."
  add_questions(s, "held_out", HELD_OUT)
  add_column(s, "short scenes", "held_out", "kind", "/short", "MLVU")
  add_column(s, "all", "held_out", paper="VideoMME")
  return "short scenes", "all"


def _large(s, arg):
  names = ("mlvu", "videomme")
  large.ask_benchmarks(s, arg.root, names)
  return names
