# SPDX-License-Identifier: Apache-2.0
"""LoRA of VideoChat-Flash on your own data, on one accelerator.

  filax train --config configs/lora_vcf.py --workdir runs/mine \\
    --config.init_from=VideoChat-Flash-Qwen2-7B_res448 --config.data.train='(("my.json","all"),)'
  filax train --config configs/lora_vcf.py:model=2B --workdir runs/mine ...
  filax train ... --config.lora.base=nf4  # QLoRA: the kernels of all blocks in 4 bits.
  filax train --config configs/lora_vcf.py:debug --workdir runs/debug  # A minute on a laptop.

Frames and pictures have 448 pixels, as in the released models; a video has 64 to 128 frames.
configs/lora_fila.py describes what is trained and what the run folder holds.
`dropout=uniform0_attention` trains with visual dropout. The other arguments are those of stage 1.
"""

from filax.configs import common
from filax.configs.vcf_stage1 import base, dynamic, parse


def get_config(arg=None):
  arg = parse(arg)
  c = base(arg, 448)
  c.data.train = (("my.json", "all"),)
  c.data.sampling = dynamic(128, 64)
  c.data.rows = (
    common.row_shape(frames=128, positions=4096),
    common.row_shape(frames=128, positions=8192),
  )
  common.adapt(c)
  if arg.debug:
    return common.shrink(c)
  return c
