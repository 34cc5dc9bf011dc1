# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video stage 4, video instruction tuning: 96 frames merged to 32.

The data are LLaVA-Video-178K.

  filax train --config configs/fila_stage4.py --workdir runs/fila_stage4 \\
    --config.init_from=runs/fila_stage3
  filax train --config configs/fila_stage4.py:debug --workdir runs/debug  # A minute on a laptop.

Table 4 of the paper: encoder 2e-6, projector 2e-6, language model 1e-5, merger 2e-6, batch 128, one
epoch. Frames are evenly spaced (LLaVA's linspace), and three consecutive frames form a scene: in
training no scenes are selected. A video has 32 x 196 tokens and one newline. The longer row is for
samples with captions of long videos.
"""

from filax.configs import common
from filax.configs.fila_stage2 import RATES
from filax.configs.mixtures.fila_stage4 import PARTS
from filax.configs.mixtures.parts import choose


def get_config(arg=None):
  arg = common.parse_arg(arg, debug=False, packed=False, mixture="", root="data")
  c = common.base()
  c.data.train = choose(arg.mixture, arg.root, PARTS, (("data/llava_video_178k.json", "all"),))
  c.data.sampling = dict(name="uniform", frames=96, phase="ends")
  c.data.rows = (
    common.row_shape(frames=96, positions=8192),
    common.row_shape(frames=96, positions=16_384),
  )
  c.optim.rates = (*RATES, ("^merger/", 2e-6))
  c.batch = 128
  common.shard_sequence(c, seq=4)
  if arg.packed:  # About 4 samples a row.
    c.data.packing = True
    c.data.rows = (common.row_shape(frames=384, positions=32_768, samples=8),)
    c.batch = 32
  if arg.debug:
    return common.shrink(c)
  return c
