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

The components and the data path are those of the 7B model: UMT encodes clips of 4 frames jointly,
ToMe leaves 8 tokens of a clip, and visual tokens may be dropped after layers 1 and 2 of 3. All
frames are used; no scenes are selected, so the frames must be close enough to show short scenes.

Stage 1  Captions of clips of one scene.
Stage 2  Questions about long virtual videos, at 64 frames. The encoder is frozen.
Stage 3  The same at 32 frames. Most clips then hold parts of two scenes, and the encoder, which
         learns again, learns to tell them apart.
Stage 4  The same at 256 frames, as when answering. The encoder is frozen again.

Measured once (seed 0, 648 held-out questions about 64 videos; the virtual videos of that corpus had
4 to 7 scenes, and not 1 to 7 as today):

  accuracy  visual dropout 1:uniform:0.75+2:attention:0.25
  0.944     none
  0.943     when answering
  0.923     when answering and in stage 4

On two busy CPU cores the stages took 171, 502, 204 and 396 seconds (stage 4 with dropout: 283).
Shorter runs on idle cores suggest about 110, 310, 115 and 210 seconds.
"""

from typing import Any

from filax.configs import common, fila_toy

CLIP = 4  # Frames of a clip.
TOKENS = 2  # Visual tokens per frame after merging.
TEXT = 76  # Positions of the longest question and answer.
ANSWER_FRAMES = 256
FROZEN = (("^encoder/", 0.0),)
STAGES: dict[int, dict[str, Any]] = {
  1: dict(frames=CLIP, batch=8, steps=600, rates=(("", 2e-3),)),
  2: dict(frames=64, batch=8, steps=2000, rates=(*FROZEN, ("", 2e-3))),
  3: dict(frames=32, batch=8, steps=700, rates=(("", 1e-3),)),
  4: dict(frames=ANSWER_FRAMES, batch=4, steps=600, rates=(*FROZEN, ("", 1e-3))),
}


def get_config(arg=None):
  arg = common.parse_arg(arg, stage=4, corpus="runs/demo/corpus", dropout="off", debug=False)
  if arg.stage not in STAGES:
    raise ValueError(f"configs/vcf_toy.py has no stage {arg.stage}. Set stage=1, 2, 3 or 4.")
  stage = STAGES[arg.stage]
  frames = stage["frames"]
  c = fila_toy.get_config(f"stage={min(arg.stage, 2)},corpus={arg.corpus}")
  _set_model(c, arg.dropout)
  _set_inference(c)
  c.data.sampling.frames = frames
  c.data.rows = (common.row_shape(frames=frames, positions=frames * TOKENS + TEXT),)
  if arg.stage == 1:
    c.data.rows = (common.row_shape(frames=8 * CLIP, positions=160, samples=8),)
  c.optim.rates = stage["rates"]
  c.optim.accumulate = 1
  c.batch = stage["batch"]
  c.steps = stage["steps"]
  if arg.debug:
    return common.shrink(c)
  return c


def _set_model(c, dropout: str) -> None:
  c.model.encoder = dict(name="umt", variant="toy", remat="none")
  c.model.selector = dict(name="clips", size=CLIP)
  c.model.merger = dict(name="tome", tokens=TOKENS, heads=4)
  c.model.projector = dict(name="mlp", newline="none", pool_side=1)
  c.model.llm.dropout = dropout


def _set_inference(c) -> None:
  longest = ANSWER_FRAMES * TOKENS + TEXT
  c.infer.selector = dict(name="clips", size=CLIP)
  c.infer.sampling = dict(name="uniform", frames=ANSWER_FRAMES, phase="ends")
  c.infer.lengths = (128, 256, longest, 1024)
