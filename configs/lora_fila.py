# SPDX-License-Identifier: Apache-2.0
"""LoRA of FiLA-Video on your own data, on one accelerator.

  filax train --config configs/lora_fila.py --workdir runs/mine \\
    --config.init_from=FOLDER --config.data.train='(("my.json","all"),)'
  filax train ... --config.lora.base=nf4  # QLoRA: the kernels of all blocks in 4 bits.
  filax train --config configs/lora_fila.py:debug --workdir runs/debug  # A laptop, a minute.

FOLDER is a run, one of its checkpoints, or a released folder such as LLaVA-OneVision-Qwen2-7B; its
tokenizer is taken with it. Adapters of rank 16 on all kernels of the language model learn at 2e-4,
as in QLoRA's paper; the projector, the merger and the encoder stay as they are. Rows are those of
stage 4. The checkpoint is the adapters alone and names FOLDER, which has to stay (--base FOLDER
finds it if it moves). `filax chat`, `evals` and `convert` take runs/mine like any other run.
"""

from configs import common


def get_config(arg=None):
  arg = common.parse_arg(arg, debug=False)
  c = common.base()
  c.data.train = (("my.json", "all"),)
  c.data.sampling = dict(name="uniform", frames=96, phase="ends")
  c.data.rows = ((96, 0, 8192, 1),)
  common.adapt(c)
  return common.shrink(c) if arg.debug else c
