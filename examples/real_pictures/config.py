# SPDX-License-Identifier: Apache-2.0
"""Captions of photographs and clips: EfficientNet-Lite0, a new projector, SmolLM2-135M with LoRA.

The README beside this file has the commands. `folder` is what prepare.py has written.
"""

from filax.configs import common


def get_config(arg=None):
  arg = common.parse_arg(arg, folder="runs/real_pictures", steps=120)
  c = common.base()
  c.model = dict(
    encoder=dict(name="efficientnet_lite:EfficientNetLite"),
    selector=dict(name="uniform", size=1),
    merger=dict(name="mean"),
    projector=dict(name="mlp", newline="one_token", pool_side=2),
    llm=dict(name="llama", variant="SmolLM2-135M", remat="none"),
    merge_stage="vision",
    dtype="float32",
    param_dtype="float32",
  )
  c.init_from = f"{arg.folder}/base"
  c.data.train = ((f"{arg.folder}/train.json", "all"),)
  c.data.tokenizer = f"{arg.folder}/base"
  c.data.system = ""
  c.data.sampling = dict(name="uniform", frames=4, phase="middle")
  c.data.rows = ((4, 4, 512, 5),)
  c.data.packing = True
  c.infer.selector = dict(name="uniform", size=1)
  c.infer.sampling = dict(name="uniform", frames=4, phase="middle")
  c.infer.max_new_tokens = 24
  c.lora = common.lora((("^llm/layers/", 8),), alpha=16.0)
  c.optim.rates = (("lora_[ab]$", 5e-4), ("^projector/", 1e-3), ("", 0.0))
  c.optim.accumulate = 1
  c.optim.warmup = 0.1
  c.steps = arg.steps
  c.log_every = 1
  c.checkpoint_every = arg.steps
  c.evals = ((f"{arg.folder}/held_out.json", max(1, arg.steps // 4), 24),)
  return c
