# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash stage 4: pictures of 448 pixels, the llm is frozen.

  filax train --config configs/vcf_stage4.py --workdir runs/vcf_stage4 \\
    --config.init_from=runs/vcf_stage3
  filax train --config configs/vcf_stage4.py:debug --workdir runs/debug  # A laptop, a minute.

As released: encoder 2e-6, connector 1e-5, 256 samples a step, one epoch, 25 % of the data of stage
3. The encoder's positions are not parameters, so stage 3's fit. Only the 7B with UMT has it.
"""

from configs import common
from configs.mixtures.parts import choose
from configs.mixtures.vcf_stage4 import PARTS
from configs.vcf_stage1 import base, dynamic, parse
from configs.vcf_stage2 import IMAGES


def get_config(arg=None):
  arg = parse(arg)
  if arg.model != "7B" or arg.encoder != "umt":
    raise ValueError(
      f"configs/vcf_stage4.py has no model={arg.model} with encoder={arg.encoder}: only the 7B "
      "with umt changes to 448 pixels. Stop after stage 3."
    )
  c = base(arg, 448)
  c.data.train = choose(arg.mixture, arg.root, PARTS, (("data/vcf_stage3.json", "first:25%"),))
  c.data.sampling = dynamic(512, 64)
  c.data.images = IMAGES
  c.data.rows = ((128, 40, 6144, 1), (512, 40, 12_288, 1), (512, 40, 32_768, 1))
  c.optim.rates = (("^encoder/", 2e-6), ("^projector/", 1e-5), ("", 0.0))
  c.batch = 256
  common.shard_sequence(c, seq=4)
  if arg.packed:  # About 4 samples a row.
    c.data.packing = True
    c.data.rows = ((1024, 160, 32_768, 32),)
    c.batch = 64
  return common.shrink(c) if arg.debug else c
