# SPDX-License-Identifier: Apache-2.0
"""LoRA of FiLA-Video on your own data, on one accelerator.

  filax train --config configs/lora_fila.py --workdir runs/mine \\
    --config.init_from=FOLDER --config.data.train='(("my.json","all"),)'
  filax train ... --config.lora.base=nf4  # QLoRA: the kernels of all blocks in 4 bits.
  filax train --config configs/lora_fila.py:debug --workdir runs/debug  # A minute on a laptop.

FOLDER is a run, one of its checkpoints, or a released folder such as LLaVA-OneVision-Qwen2-7B. The
tokenizer is taken from it, too. Adapters of rank 16 are trained on all kernels of the language
model, with the learning rate of QLoRA's paper (2e-4). The projector, the merger and the encoder do
not change. The row is the shorter one of stage 4.

The checkpoint holds only the adapters, and the path of FOLDER. Keep FOLDER; if it moves, name its
new path with --base. `filax chat`, `evals` and `convert` take runs/mine like any other run.
"""

from filax.configs import common


def get_config(arg=None):
  arg = common.parse_arg(arg, debug=False)
  c = common.base()
  c.data.train = (("my.json", "all"),)
  c.data.sampling = dict(name="uniform", frames=96, phase="ends")
  c.data.rows = (common.row_shape(frames=96, positions=8192),)
  common.adapt(c)
  if arg.debug:
    return common.shrink(c)
  return c
