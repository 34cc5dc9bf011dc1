# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video at toy size; trains on a CPU in minutes.

The data are the corpus of data_pipelines/synthesis/toy.py.

  filax demo --workdir runs/demo  # Makes the corpus, then both stages, and measures them.
  filax train --config configs/fila_toy.py:stage=1 --workdir runs/demo/stage1
  filax train --config configs/fila_toy.py:stage=2 --workdir runs/demo/stage2 \\
    --config.init_from=runs/demo/stage1 --config.best=eval/held_out/accuracy \\
    --config.evals='(("runs/demo/corpus/held_out.json",500,100),)'  # Both may be left out.

The components and the data path are those of the 7B model; only sizes, rates and lengths differ.

Stage 1    Learns to see: captions of clips of 3 neighbouring frames, 8 clips packed in a row.
Stage 2    Learns to remember: questions about 24 frames (8 groups of 3) of a long virtual video.
           The encoder is frozen.
Answering  Selects 8 scenes of 3 frames from 256 candidate frames. That gives as many visual tokens
           as in training.

In each epoch the frames are sampled with another random phase. The fusion weights have a learning
rate of their own, as in the paper, but not the paper's 2e-6: with it they would not change in so
few steps.
"""

from filax.configs import common

RATE = 2e-3
GROUPS = 8  # The 16 patches of a group's frames are merged, then pooled to 4 tokens.
SIZE = 3  # Frames of a group.


def get_config(arg=None):
  arg = common.parse_arg(arg, stage=2, corpus="runs/demo/corpus", debug=False)
  if arg.stage not in (1, 2):
    raise ValueError(f"configs/fila_toy.py has no stage {arg.stage}. Set stage=1 or stage=2.")
  c = common.base()
  c.model.encoder = dict(name="siglip", variant="toy", remat="none")
  c.model.llm = common.qwen2("toy", remat="none")
  c.model.dtype = "float32"
  c.infer.selector.scenes = GROUPS
  c.infer.selector.steps = 30
  c.infer.max_new_tokens = 48
  c.data.tokenizer = f"{arg.corpus}/tokenizer.model"
  c.data.system = ""
  c.data.cache = f"{arg.corpus}/frames"
  c.data.sampling.phase = "random"
  c.data.labels = "answer_only"
  c.optim.rates = (("^merger/", RATE), ("", RATE))
  c.optim.decay = (("(kernel|embedding)$", 0.01), ("", 0.0))
  c.optim.b2 = 0.98
  c.optim.warmup = 0.05
  c.optim.final = 0.02
  c.optim.reduction = "token_mean"
  c.optim.accumulate = 1
  c.log_every = 20
  c.checkpoint_every = 200
  if arg.stage == 1:
    _set_stage1(c, arg.corpus)
  else:
    _set_stage2(c, arg.corpus)
  if arg.debug:
    return common.shrink(c)
  return c


def _set_stage1(c, corpus: str):
  c.data.train = ((f"{corpus}/stage1.json", "all"),)
  c.data.template = "plain"
  c.data.sampling.frames = SIZE
  c.data.packing = True
  c.data.rows = (common.row_shape(frames=GROUPS * SIZE, positions=88, samples=GROUPS),)
  c.batch = 8
  c.steps = 600


def _set_stage2(c, corpus: str):
  c.data.train = ((f"{corpus}/stage2.json", "all"),)
  c.data.template = "brief"
  c.data.sampling.frames = GROUPS * SIZE
  c.data.rows = (common.row_shape(frames=GROUPS * SIZE, positions=108),)
  c.optim.rates = (("^encoder/", 0.0), *c.optim.rates)
  c.batch = 8
  c.steps = 2800  # With some seeds the loss falls late.
