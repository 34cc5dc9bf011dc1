# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash stage 3, instructions on short and long videos: all parameters are trained.

  filax train --config configs/vcf_stage3.py --workdir runs/vcf_stage3 \\
    --config.init_from=runs/vcf_stage2
  filax train --config configs/vcf_stage3.py:dropout=uniform0_attention --workdir runs/dropping \\
    --config.init_from=runs/vcf_stage2  # Visual dropout in training: the release has none.
  filax train --config configs/vcf_stage3.py:debug --workdir runs/debug  # A minute on a laptop.

As released: learning rates and batch of stage 2, one epoch, 64 to 512 frames per video, 16 tokens
per frame. The arguments are those of stage 1.
"""

from filax.configs import common
from filax.configs.mixtures.parts import choose
from filax.configs.mixtures.vcf_stage3 import PARTS
from filax.configs.vcf_stage1 import base, dynamic, parse
from filax.configs.vcf_stage2 import IMAGES, RATES


def get_config(arg=None):
  arg = parse(arg)
  c = base(arg, 224)
  c.data.train = choose(arg.mixture, arg.root, PARTS, (("data/vcf_stage3.json", "all"),))
  c.data.sampling = dynamic(512, 64)
  c.data.images = IMAGES
  c.data.rows = (
    common.row_shape(frames=128, images=40, positions=6144),
    common.row_shape(frames=512, images=40, positions=12_288),
    common.row_shape(frames=512, images=40, positions=32_768),
  )
  c.optim.rates = RATES
  c.batch = 256
  common.shard_sequence(c, seq=4)
  if arg.packed:  # About 4 samples a row.
    c.data.packing = True
    c.data.rows = (common.row_shape(frames=1024, images=160, positions=32_768, samples=32),)
    c.batch = 64
  if arg.debug:
    return common.shrink(c)
  return c
