# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash stage 4: frames and pictures of 448 pixels; the language model is frozen.

  filax train --config configs/vcf_stage4.py --workdir runs/vcf_stage4 \\
    --config.init_from=runs/vcf_stage3
  filax train --config configs/vcf_stage4.py:debug --workdir runs/debug  # A minute on a laptop.

As released: learning rate 2e-6 for the encoder and 1e-5 for the connector, 256 samples per step,
one epoch, 25 % of the data of stage 3. The encoder's positions are computed and not learned, so the
parameters of stage 3 fit larger pictures. Only the 7B model with UMT has this stage.
"""

from filax.configs import common
from filax.configs.mixtures.parts import choose
from filax.configs.mixtures.vcf_stage4 import PARTS
from filax.configs.vcf_stage1 import base, dynamic, parse
from filax.configs.vcf_stage2 import IMAGES


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
  c.data.rows = (
    common.row_shape(frames=128, images=40, positions=6144),
    common.row_shape(frames=512, images=40, positions=12_288),
    common.row_shape(frames=512, images=40, positions=32_768),
  )
  c.optim.rates = (("^encoder/", 2e-6), ("^projector/", 1e-5), ("", 0.0))
  c.batch = 256
  common.shard_sequence(c, seq=4)
  if arg.packed:  # About 4 samples a row.
    c.data.packing = True
    c.data.rows = (common.row_shape(frames=1024, images=160, positions=32_768, samples=32),)
    c.batch = 64
  if arg.debug:
    return common.shrink(c)
  return c
