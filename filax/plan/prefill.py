# SPDX-License-Identifier: Apache-2.0
"""filax flops --config F --frames 64,256,1000,10000: the work of reading a video, by frame count.

  filax flops --config configs/vcf_stage3.py --frames 64,256,1000,10000
  filax flops --config configs/vcf_stage3.py:dropout=uniform0_attention --frames 10000
  filax flops --config configs/vcf_stage3.py --frames 64 --tokens-per-frame 144  # LongVA.

Two conventions side by side. Standard: two FLOPs a weight and token, causal attention by its
pairs, the encoder, merger and connector included; the llm's head is counted once, as only the last
position is asked for the next token. The paper's (arXiv:2501.00574, Table 1), as fitted to its
cells: 4 P L + 6 n d L^2 with P the weights of the llm's layers and its head, n layers of width d
and L visual tokens; the encoder is not counted.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import json
import math

import jax

from filax import cli
from filax.models import components
from filax.plan.flops import train_costs
from filax.spec import dropout_stages


@dataclasses.dataclass(frozen=True)
class Work:
  """FLOPs of reading a video of `frames` frames, which are `tokens` visual tokens."""

  frames: int
  tokens: int
  encoder: float  # With the connector.
  merger: float
  llm: float
  paper: float

  @property
  def total(self) -> float:
    return self.encoder + self.merger + self.llm


class Reader:
  """Counts for a VideoLM; nothing is computed but shapes."""

  def __init__(self, model):
    shapes = components.parameter_shapes(model)
    paths = [
      jax.tree_util.keystr(p, simple=True, separator="/")
      for p, _ in jax.tree_util.tree_leaves_with_path(shapes)
    ]
    self.model = model
    self.costs = train_costs(model, shapes, dict.fromkeys(paths, 0.0))

  def work(self, frames: int, per_frame: float | None = None) -> Work:
    """Of `frames` frames; `per_frame` visual tokens a frame instead of the model's own."""
    model, layout = self.model, self.model.layout()
    groups = math.ceil(frames / layout.frames_per_group)
    tokens = groups * layout.tokens_per_group if per_frame is None else round(frames * per_frame)
    merge = getattr(model.merger, "flops", lambda *sizes: 0.0)
    merger = groups * merge(model.selector.size, model.encoder.grid, model.encoder.width)
    llm = paper = 0.0
    for share, length in self._ranges(tokens):
      weights = share * (self.costs.token - self.costs.head) * length
      squares = share * self.costs.pair * length**2
      llm += weights + squares / 2
      paper += 2 * weights + 1.5 * squares
    llm += self.costs.head  # Only the last position needs the next token.
    paper += 2 * self.costs.head * length
    return Work(frames, tokens, frames * self.costs.frame, merger, llm, paper)

  def _ranges(self, tokens: int) -> list[tuple[float, int]]:
    """(share of the layers, visual tokens they see)."""
    llm, stages = self.model.llm, self.model.stages
    kept = dropout_stages.kept([tokens], stages)[:, 0].tolist()
    return [
      ((stop - first) / llm.depth, length)
      for (first, stop), length in zip(llm.ranges, (tokens, *kept), strict=True)
    ]


def main(argv: Sequence[str]) -> None:
  """Prints a table, or one JSON list with --json."""
  made = cli.Parser(
    prog="filax flops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument("--config", required=True, help="a config file, with :arguments")
  made.add_argument(
    "--frames", type=cli.wholes(1), default=(64, 256, 1000, 10_000), help="counts, with commas"
  )
  made.add_argument(
    "--tokens-per-frame", type=cli.number(above=True), help="instead of the model's own"
  )
  made.add_argument("--json", action="store_true", help="print JSON, in FLOPs")
  args, rest = made.parse_known_args(argv)
  from filax.train import command

  jax.config.update("jax_platforms", "cpu")  # Shapes need no device; do not wait for one.
  config, _ = command.read(["--config", args.config, *rest])
  reader = Reader(components.build_video_lm(config.model))
  rows = [reader.work(n, args.tokens_per_frame) for n in args.frames]
  if args.json:
    print(json.dumps([dataclasses.asdict(row) | dict(total=row.total) for row in rows]))
    return
  names = ("encoder", "merger", "llm", "total", "paper")
  print(f"{'frames':>8} {'tokens':>8}" + "".join(f" {name:>12}" for name in names) + "   TFLOPs")
  for row in rows:
    figures = "".join(f" {getattr(row, name) / 1e12:>12,.1f}" for name in names)
    print(f"{row.frames:>8,} {row.tokens:>8,}{figures}")
