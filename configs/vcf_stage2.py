# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash stage 2, pre-training on pictures and short videos: everything learns.

  filax train --config configs/vcf_stage2.py --workdir runs/vcf_stage2 \\
    --config.init_from=runs/vcf_stage1
  filax train --config configs/vcf_stage2.py:debug --workdir runs/debug  # A laptop, a minute.

As released: connector and language model 1e-5, encoder 2e-6, 256 samples a step, one epoch, 4 or 8
frames a video. A single picture becomes an overview and up to 36 tiles of 64 tokens. Arguments as
in stage 1.
"""

from configs import common
from configs.mixtures.parts import choose
from configs.mixtures.vcf_stage2 import PARTS
from configs.vcf_stage1 import base, dynamic, parse

RATES = (("^encoder/", 2e-6), ("^projector/", 1e-5), ("^llm/", 1e-5))
IMAGES = dict(mode="anyres_nopad", tiles=36)


def get_config(arg=None):
  arg = parse(arg)
  c = base(arg, 224)
  c.data.train = choose(arg.mixture, arg.root, PARTS, (("data/vcf_stage2.json", "all"),))
  c.data.sampling = dynamic(8, 1)
  c.data.images = IMAGES
  c.data.rows = ((8, 8, 2048, 1), (8, 40, 8192, 1), (8, 40, 32_768, 1))
  c.optim.rates = RATES
  c.batch = 256
  common.shard_sequence(c, seq=4)
  if arg.packed:  # About 8 samples a row.
    c.data.packing = True
    c.data.rows = ((64, 160, 16_384, 32),)
    c.batch = 32
  return common.shrink(c) if arg.debug else c
