# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash at toy size, for needles in 10,000 frames; for a CPU.

  python -m data_pipelines.synthesis.needle_lessons --out runs/needles/corpus
  filax train --config configs/vcf_needles.py:stage=1 --workdir runs/needles/stage1
  filax train --config configs/vcf_needles.py:stage=2 --workdir runs/needles/stage2 \\
    --config.init_from=runs/needles/stage1  # And so on, up to stage 5.
  filax evals niah --checkpoint runs/needles/stage5 --protocol longva \\
    --needles runs/needles/corpus/test/single.json \\
    --haystack runs/needles/corpus/test/haystack.mp4 --out runs/needles/niah \\
    --lengths 1000,2000,3000,4000,5000,6000,7000,8000,9000,10000 \\
    --depths 0,0.112,0.224,0.332,0.444,0.556,0.668,0.776,0.888,1

UMT reads clips of 4 frames jointly, and ToMe leaves 4 tokens of a clip: one a frame. Stage 1:
captions of single clips. Stage 2: questions about 4 clips, with which the encoder goes on learning:
after captions alone, no token of a card tells its key, shape and pointer together. Then the encoder
is frozen: stage 3 reads 64 frames, stage 4 up to 256, stage 5 up to 1,024. No row is as long as the
test, so random gaps spread the positions of all rows over up to 24,576
(config.data.position_gaps).
"""

from configs import common, vcf_toy

CLIP = vcf_toy.CLIP
POSITIONS = 24_576
THETA = 1e8  # With 1e4 the rotary angles of far positions repeat too often.
LAST = 11  # Thousands of positions of the longest prompt.
WORDS = 128  # Positions of eight questions and answers.
STAGES = {  # Lessons, row (frames, images, positions, samples), rows a step, steps, rate.
  1: (("captions",), (8 * CLIP, 0, 96, 8), 8, 300, 2e-3),
  2: (("lessons-16",), (16, 0, 176, 1), 32, 2200, 2e-3),
  3: (("lessons-64",), (64, 0, 64 + WORDS, 1), 16, 900, 2e-3),
  4: (("lessons-256", "lessons-64"), (256, 0, 256 + WORDS, 1), 8, 500, 1e-3),
  5: (("lessons-1024", "lessons-64"), (1024, 0, 1024 + WORDS, 1), 4, 500, 1e-3),
}
LEARNING_ENCODER = (1, 2)  # Stages.


def get_config(arg=None):
  arg = common.parse_arg(
    arg, stage=5, corpus="runs/needles/corpus", dropout="off", gaps=POSITIONS, debug=False
  )
  if arg.stage not in STAGES:
    raise ValueError(f"configs/vcf_needles.py has no stage {arg.stage}. Set stage=1 to 5.")
  lessons, row, batch, steps, rate = STAGES[arg.stage]
  c = vcf_toy.get_config(f"stage={min(arg.stage, 2)},corpus={arg.corpus},dropout={arg.dropout}")
  c.model.merger.tokens = 1
  with c.unlocked():
    c.model.llm.theta = THETA
    c.model.llm.positions = POSITIONS
  c.infer.lengths = (256, 512, *(1024 * number + 256 for number in range(1, LAST)))
  c.infer.sampling = _every_second(10_000)
  c.infer.max_new_tokens = 8
  c.data.root = arg.corpus
  c.data.train = tuple((f"{arg.corpus}/{name}.jsonl", "all") for name in lessons)
  c.data.sampling = _every_second(1024)
  c.data.position_gaps = arg.gaps
  c.data.rows = (row,)
  frozen = () if arg.stage in LEARNING_ENCODER else vcf_toy.FROZEN
  c.optim.rates = (*frozen, ("", rate))
  c.batch = batch
  c.steps = steps
  if arg.debug:
    return common.shrink(c)
  c.data.packing = True
  return c


def _every_second(limit: int) -> dict:
  """A frame a second, in whole clips, at most `limit` frames."""
  return dict(name="dynamic_fps", frames=limit, low=CLIP, multiple=CLIP, phase="middle")
