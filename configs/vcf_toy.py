# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash at toy size, for a CPU.

  python -m data_pipelines.synthesis.toy --out runs/demo/corpus
  filax train --config configs/vcf_toy.py:stage=1 --workdir runs/vcf/stage1
  filax train --config configs/vcf_toy.py:stage=2 --workdir runs/vcf/stage2 \\
    --config.init_from=runs/vcf/stage1
  filax train --config configs/vcf_toy.py:stage=3 --workdir runs/vcf/stage3 \\
    --config.init_from=runs/vcf/stage2
  filax train --config configs/vcf_toy.py:stage=4 --workdir runs/vcf/stage4 \\
    --config.init_from=runs/vcf/stage3  # Or stage=4,dropout=1:uniform:0.75+2:attention:0.25
  filax evals --checkpoint runs/vcf/stage4 --manifest runs/demo/corpus/held_out.json \\
    --dropout 1:uniform:0.75,2:attention:0.25

The parts and the path of the data are those of the 7B: UMT reads clips of 4 frames jointly, ToMe
leaves 8 tokens of a clip, and visual tokens may be dropped after layers 1 and 2 of 3. Stage 1:
captions of clips of one scene. Stage 2: questions about long virtual videos, the encoder stays
frozen. Stage 3: at 32 frames, so few that most clips hold parts of two scenes, which the encoder
learns to tell apart. Stage 4: at the 256 frames of answering, frozen again. Nothing is selected:
frames must stand close enough to show short scenes.

Measured once (seed 0, 648 held-out questions about 64 videos): accuracy 0.944 without dropout;
0.943 when only the answers drop visual tokens, 1:uniform:0.75+2:attention:0.25; 0.923 when stage 4
is trained with it as well. On two busy CPU cores the stages took 171, 502, 204 and 396 seconds (283
with dropout); shorter runs on idle ones suggest about 110, 310, 115 and 210.
"""

from configs import common, fila_toy

CLIP = 4
TOKENS = 2
TEXT = 76  # Positions of the longest question and answer.
FROZEN = (("^encoder/", 0.0),)
STAGES = {  # Frames of a sample, rows a step, steps, rates.
  1: (CLIP, 8, 600, (("", 2e-3),)),
  2: (64, 8, 2000, (*FROZEN, ("", 2e-3))),
  3: (32, 8, 700, (("", 1e-3),)),
  4: (256, 4, 600, (*FROZEN, ("", 1e-3))),
}


def get_config(arg=None):
  arg = common.parse_arg(arg, stage=4, corpus="runs/demo/corpus", dropout="off", debug=False)
  if arg.stage not in STAGES:
    raise ValueError(f"configs/vcf_toy.py has no stage {arg.stage}. Set stage=1, 2, 3 or 4.")
  frames, batch, steps, rates = STAGES[arg.stage]
  c = fila_toy.get_config(f"stage={min(arg.stage, 2)},corpus={arg.corpus}")
  c.model.encoder = dict(name="umt", variant="toy", remat="none")
  c.model.selector = dict(name="clips", size=CLIP)
  c.model.merger = dict(name="tome", tokens=TOKENS, heads=4)
  c.model.projector = dict(name="mlp", newline="none", pool_side=1)
  c.model.llm.dropout = arg.dropout
  c.infer.selector = dict(name="clips", size=CLIP)
  c.infer.sampling = dict(name="uniform", frames=STAGES[4][0], phase="ends")
  c.infer.lengths = (128, 256, STAGES[4][0] * TOKENS + TEXT, 1024)
  c.data.sampling.frames = frames
  c.data.rows = ((frames, 0, frames * TOKENS + TEXT, 1),)
  c.optim.rates = rates
  c.optim.accumulate = 1
  c.batch = batch
  c.steps = steps
  if arg.stage == 1:
    c.data.rows = ((8 * CLIP, 0, 160, 8),)
  return common.shrink(c) if arg.debug else c
