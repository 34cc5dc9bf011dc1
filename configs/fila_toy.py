# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video at toy size; trains on a CPU in minutes.

The data are the corpus of data_pipelines/synthesis/toy.py.

  filax demo --workdir runs/demo  # Makes the corpus, then both stages, and measures them.
  filax train --config configs/fila_toy.py:stage=1 --workdir runs/demo/stage1
  filax train --config configs/fila_toy.py:stage=2 --workdir runs/demo/stage2 \\
    --config.init_from=runs/demo/stage1 --config.best=eval/held_out/accuracy \
    --config.evals='(("runs/demo/corpus/held_out.json",500,100),)'  # Both may be left out.

The parts and the path of the data are those of the 7B; only sizes, rates and lengths differ. Stage
1 learns to see: captions of clips of 3 neighbouring frames, 8 of them packed in a row. Stage 2
learns to remember: questions about 24 frames of a long virtual video, 8 groups of 3; the encoder
stays frozen. Each epoch draws the frames at another random phase. At the paper's 2e-6 the fusion
weights would not move in so few steps, so they learn as fast as the rest, still by a rule of their
own. Answers come from 8 scenes of 3 frames out of 256 candidates: as many visual tokens as in
training.
"""

from configs import common

RATE = 2e-3
GROUPS = 8  # A group is 16 patches merged over 3 frames, pooled to 4 tokens.
SIZE = 3


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
  (_stage1 if arg.stage == 1 else _stage2)(c, arg.corpus)
  return common.shrink(c) if arg.debug else c


def _stage1(c, corpus: str):
  c.data.train = ((f"{corpus}/stage1.json", "all"),)
  c.data.template = "plain"
  c.data.sampling.frames = SIZE
  c.data.packing = True
  c.data.rows = ((GROUPS * SIZE, 0, 88, GROUPS),)
  c.batch = 8
  c.steps = 600


def _stage2(c, corpus: str):
  c.data.train = ((f"{corpus}/stage2.json", "all"),)
  c.data.template = "brief"
  c.data.sampling.frames = GROUPS * SIZE
  c.data.rows = ((GROUPS * SIZE, 0, 108, 1),)
  c.optim.rates = (("^encoder/", 0.0), *c.optim.rates)
  c.batch = 8
  c.steps = 2000
