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

UMT encodes clips of 4 frames jointly. ToMe leaves 4 tokens of a clip, one per frame.

Stage 1   Captions of single clips.
Stage 2   Questions about 4 clips. The encoder keeps learning: after captions alone, no visual token
          holds the key, the shape and the pointer of a card together.
Stage 3   Questions about 64 frames. From here on the encoder is frozen.
Stage 4   Questions about 256 frames and about 64.
Stage 5   Questions about 1,024 frames and about 64.

No row is as long as the test. So random gaps spread the positions of each sample over up to 24,576
(config.data.position_gaps), and the model learns large positions from short rows.
"""

from typing import Any

from filax.configs import common, vcf_toy

CLIP = vcf_toy.CLIP
POSITIONS = 24_576
THETA = 1e8  # With 1e4 the rotary angles of far positions repeat too often.
LONGEST_PROMPT = 11  # In units of 1024 positions.
TEXT = 128  # Positions of eight questions and answers.
STAGES: dict[int, dict[str, Any]] = {
  1: dict(
    lessons=("captions",),
    row=common.row_shape(frames=8 * CLIP, positions=96, samples=8),
    batch=8,
    steps=300,
    rate=2e-3,
  ),
  2: dict(
    lessons=("lessons-16",),
    row=common.row_shape(frames=16, positions=176),
    batch=32,
    steps=2200,
    rate=2e-3,
  ),
  3: dict(
    lessons=("lessons-64",),
    row=common.row_shape(frames=64, positions=64 + TEXT),
    batch=16,
    steps=900,
    rate=2e-3,
  ),
  4: dict(
    lessons=("lessons-256", "lessons-64"),
    row=common.row_shape(frames=256, positions=256 + TEXT),
    batch=8,
    steps=500,
    rate=1e-3,
  ),
  5: dict(
    lessons=("lessons-1024", "lessons-64"),
    row=common.row_shape(frames=1024, positions=1024 + TEXT),
    batch=4,
    steps=500,
    rate=1e-3,
  ),
}
LEARNING_ENCODER = (1, 2)  # Stages that train the encoder.


def get_config(arg=None):
  arg = common.parse_arg(
    arg, stage=5, corpus="runs/needles/corpus", dropout="off", gaps=POSITIONS, debug=False
  )
  if arg.stage not in STAGES:
    raise ValueError(f"configs/vcf_needles.py has no stage {arg.stage}. Set stage=1 to 5.")
  stage = STAGES[arg.stage]
  c = vcf_toy.get_config(f"stage={min(arg.stage, 2)},corpus={arg.corpus},dropout={arg.dropout}")
  c.model.merger.tokens = 1
  with c.unlocked():
    c.model.llm.theta = THETA
    c.model.llm.positions = POSITIONS
  longer = tuple(1024 * number + 256 for number in range(1, LONGEST_PROMPT))
  c.infer.lengths = (256, 512, *longer)
  c.infer.sampling = _every_second(10_000)
  c.infer.max_new_tokens = 8
  c.data.root = arg.corpus
  c.data.train = tuple((f"{arg.corpus}/{name}.jsonl", "all") for name in stage["lessons"])
  c.data.sampling = _every_second(1024)
  c.data.position_gaps = arg.gaps
  c.data.rows = (stage["row"],)
  frozen = () if arg.stage in LEARNING_ENCODER else vcf_toy.FROZEN
  c.optim.rates = (*frozen, ("", stage["rate"]))
  c.batch = stage["batch"]
  c.steps = stage["steps"]
  if arg.debug:
    return common.shrink(c)
  c.data.packing = True
  return c


def _every_second(limit: int) -> dict:
  """Samples one frame per second, in whole clips, at most `limit` frames."""
  return dict(name="dynamic_fps", frames=limit, low=CLIP, multiple=CLIP, phase="middle")
