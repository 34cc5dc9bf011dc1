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

import jax

from filax.cli import config_flags, options
from filax.models import components
from filax.plan import prefill


def main(argv: Sequence[str]) -> None:
  """Prints a table, or one JSON list with --json."""
  made = options.Parser(
    prog="filax flops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument("--config", required=True, help="a config file, with :arguments")
  made.add_argument(
    "--frames", type=options.wholes(1), default=(64, 256, 1000, 10_000), help="counts, with commas"
  )
  made.add_argument(
    "--tokens-per-frame", type=options.number(above=True), help="instead of the model's own"
  )
  made.add_argument("--json", action="store_true", help="print JSON, in FLOPs")
  args, rest = made.parse_known_args(argv)
  jax.config.update("jax_platforms", "cpu")  # Shapes need no device; do not wait for one.
  config, _ = config_flags.read(["--config", args.config, *rest])
  reader = prefill.Reader(components.build_video_lm(config.model))
  rows = [reader.work(n, args.tokens_per_frame) for n in args.frames]
  if args.json:
    print(json.dumps([dataclasses.asdict(row) | dict(total=row.total) for row in rows]))
    return
  names = ("encoder", "merger", "llm", "total", "paper")
  print(f"{'frames':>8} {'tokens':>8}" + "".join(f" {name:>12}" for name in names) + "   TFLOPs")
  for row in rows:
    figures = "".join(f" {getattr(row, name) / 1e12:>12,.1f}" for name in names)
    print(f"{row.frames:>8,} {row.tokens:>8,}{figures}")
