# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video stage 2, knowledge injection: 4.0 M images from LLaVA-OneVision's knowledge data.

  filax train --config configs/fila_stage2.py --workdir runs/fila_stage2 \\
    --config.init_from=runs/fila_stage1
  filax train --config configs/fila_stage2.py:debug --workdir runs/debug  # A minute on a laptop.

Table 4 of the paper: encoder 2e-6, projector 2e-6, language model 1e-5, batch 64, one epoch. The
image newline has the language model's rate, as in LLaVA's script. A single image becomes an
overview and at most 9 tiles (anyres_max_9).
"""

from filax.configs import common
from filax.configs.mixtures.fila_stage2 import PARTS
from filax.configs.mixtures.parts import choose

RATES = (("image_newline$", 1e-5), ("^encoder/", 2e-6), ("^projector/", 2e-6), ("^llm/", 1e-5))


def get_config(arg=None):
  return config(arg, PARTS, (("data/onevision_knowledge.json", "all"),))


def config(arg, published, usual):
  """The config of stages 2 and 3, which differ in their data."""
  arg = common.parse_arg(arg, debug=False, packed=False, mixture="", root="data")
  c = common.base()
  c.data.train = choose(arg.mixture, arg.root, published, usual)
  c.data.images = dict(mode="anyres", tiles=9)
  c.data.rows = (common.row_shape(images=12, positions=8192),)
  c.optim.rates = (*RATES, ("^merger/", 0.0))
  c.batch = 64
  common.shard_sequence(c, seq=4)
  if arg.packed:  # About 4 samples a row.
    c.data.packing = True
    c.data.rows = (common.row_shape(images=48, positions=32_768, samples=16),)
    c.batch = 16
  if arg.debug:
    return common.shrink(c)
  return c
