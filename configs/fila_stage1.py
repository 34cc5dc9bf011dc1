# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video stage 1, vision-language alignment on BLIP-558K: only the projector learns.

  filax train --config configs/fila_stage1.py --workdir runs/fila_stage1
  filax train --config configs/fila_stage1.py:debug --workdir runs/debug  # A minute on a laptop.

Table 4 of the paper: learning rate 1e-3, batch 32, one epoch. The other settings are those of
LLaVA's script: a plain template without a system turn, and pictures squashed to 384 pixels (729
tokens, no newline). Set config.init_from to a folder that holds the pretrained vision encoder and
language model.
"""

from filax.configs import common
from filax.configs.mixtures.fila_stage1 import PARTS
from filax.configs.mixtures.parts import choose


def get_config(arg=None):
  arg = common.parse_arg(arg, debug=False, packed=False, mixture="", root="data")
  c = common.base()
  c.model.projector.newline = "none"
  c.data.train = choose(arg.mixture, arg.root, PARTS, (("data/blip_558k.json", "all"),))
  c.data.template = "plain"
  c.data.system = ""
  c.data.rows = (common.row_shape(images=1, positions=1024),)
  c.optim.rates = (("^projector/", 1e-3), ("", 0.0))
  c.batch = 32
  common.shard_sequence(c, seq=8)
  if arg.packed:  # About 8 samples a row.
    c.data.packing = True
    c.data.rows = (common.row_shape(images=8, positions=6656, samples=16),)
    c.batch = 4
  if arg.debug:
    return common.shrink(c)
  return c
