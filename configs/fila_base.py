# SPDX-License-Identifier: Apache-2.0
"""FiLA-Base, the paper's baseline: stage 4 without merging, 32 uniform frames.

  filax train --config configs/fila_base.py --workdir runs/fila_base \\
    --config.init_from=runs/fila_stage3
  filax train --config configs/fila_base.py:debug --workdir runs/debug  # A minute on a laptop.

Table 4 of the paper: 32 frames in training, with the learning rates and the batch of stage 4. When
answering, the model sees 64 frames.
"""

from filax.configs import common
from filax.configs.fila_stage2 import RATES
from filax.configs.mixtures.fila_stage4 import PARTS
from filax.configs.mixtures.parts import choose


def get_config(arg=None):
  arg = common.parse_arg(arg, debug=False, packed=False, mixture="", root="data")
  c = common.base()
  c.model.selector = dict(name="uniform", size=1)
  c.model.merger = dict(name="mean")
  c.infer.selector = dict(name="uniform", size=1)
  c.infer.sampling = dict(name="uniform", frames=64, phase="ends")
  c.data.train = choose(arg.mixture, arg.root, PARTS, (("data/llava_video_178k.json", "all"),))
  c.data.sampling = dict(name="uniform", frames=32, phase="ends")
  c.data.rows = (
    common.row_shape(frames=32, positions=8192),
    common.row_shape(frames=32, positions=16_384),
  )
  c.optim.rates = RATES
  c.batch = 128
  common.shard_sequence(c, seq=4)
  if arg.packed:  # About 4 samples a row.
    c.data.packing = True
    c.data.rows = (common.row_shape(frames=128, positions=32_768, samples=8),)
    c.batch = 32
  if arg.debug:
    return common.shrink(c)
  return c
