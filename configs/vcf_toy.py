# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash at toy size, for the corpus of data_pipelines/synthesis/toy.py. On a CPU.

  python -m data_pipelines.synthesis.toy --out runs/demo/corpus
  filax train --config configs/vcf_toy.py:stage=1 --workdir runs/vcf/stage1
  filax train --config configs/vcf_toy.py:stage=2 --workdir runs/vcf/stage2 \\
    --config.init_from=runs/vcf/stage1
  filax train --config configs/vcf_toy.py:stage=2,dropout=1:uniform:0.75+2:attention:0.25 ...
  filax evals --checkpoint runs/vcf/stage2 --manifest runs/demo/corpus/held_out.json \\
    --dropout 1:uniform:0.75,2:attention:0.25

The parts and the path of the data are those of the 7B: UMT reads clips of 4 frames jointly, ToMe
leaves 8 tokens of a clip, and visual tokens may be dropped after layers 1 and 2 of 3. Stages as in
fila_toy: clips of one scene with captions, then questions about long virtual videos. Nothing is
selected, so frames must stand close enough to show short scenes: 96 a video.
"""

from configs import common, fila_toy

FRAMES, CLIP, TOKENS = 96, 4, 2
RATE = fila_toy.RATE


def get_config(arg=None):
  arg = common.parse_arg(
    arg, stage=2, corpus="runs/demo/corpus", dropout="off", debug=False)
  c = fila_toy.get_config(f"stage={arg.stage},corpus={arg.corpus}")
  c.model.encoder = dict(name="umt", variant="toy", remat="none")
  c.model.selector = dict(name="clips", size=CLIP)
  c.model.merger = dict(name="tome", tokens=TOKENS, heads=4)
  c.model.projector = dict(name="mlp", newline="none", pool_side=1)
  c.model.llm.dropout = arg.dropout
  c.infer.selector = dict(name="clips", size=CLIP)
  c.infer.sampling = dict(name="uniform", frames=FRAMES, phase="ends")
  c.optim.rates = (("", RATE),) if arg.stage == 1 else (("^encoder/", 0.0), ("", RATE))
  if arg.stage == 1:
    c.data.sampling.frames, c.data.rows = CLIP, ((8 * CLIP, 0, 160, 8),)
  else:
    c.data.sampling.frames, c.data.rows = FRAMES, ((FRAMES, 0, 320, 1),)
  return common.shrink(c) if arg.debug else c
