# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash stage 2, pre-training on pictures and short videos: all parameters are trained.

  filax train --config configs/vcf_stage2.py --workdir runs/vcf_stage2 \\
    --config.init_from=runs/vcf_stage1
  filax train --config configs/vcf_stage2.py:debug --workdir runs/debug  # A minute on a laptop.

As released: learning rate 1e-5 for connector and language model and 2e-6 for the encoder, 256
samples per step, one epoch, 4 or 8 frames per video. A single picture becomes an overview and up to
36 tiles, each of 64 tokens. The arguments are those of stage 1.
"""

from filax.configs import common
from filax.configs.mixtures.parts import choose
from filax.configs.mixtures.vcf_stage2 import PARTS
from filax.configs.vcf_stage1 import base, dynamic, parse

RATES = (("^encoder/", 2e-6), ("^projector/", 1e-5), ("^llm/", 1e-5))
IMAGES = dict(mode="anyres_nopad", tiles=36)


def get_config(arg=None):
  arg = parse(arg)
  c = base(arg, 224)
  c.data.train = choose(arg.mixture, arg.root, PARTS, (("data/vcf_stage2.json", "all"),))
  c.data.sampling = dynamic(8, 1)
  c.data.images = IMAGES
  c.data.rows = (
    common.row_shape(frames=8, images=8, positions=2048),
    common.row_shape(frames=8, images=40, positions=8192),
    common.row_shape(frames=8, images=40, positions=32_768),
  )
  c.optim.rates = RATES
  c.batch = 256
  common.shard_sequence(c, seq=4)
  if arg.packed:  # About 8 samples a row.
    c.data.packing = True
    c.data.rows = (common.row_shape(frames=64, images=160, positions=16_384, samples=32),)
    c.batch = 32
  if arg.debug:
    return common.shrink(c)
  return c
