# SPDX-License-Identifier: Apache-2.0
"""filax flops --config F --frames 64,256,1000,10000: the work of reading videos.

  filax flops --config configs/vcf_stage3.py --frames 64,256,1000,10000
  filax flops --config configs/vcf_stage3.py:dropout=uniform0_attention --frames 10000
  filax flops --config configs/vcf_stage3.py --frames 64 --tokens-per-frame 144  # LongVA.

Prints two conventions side by side.

Standard: two FLOPs per weight and token. Causal attention is counted by its pairs of tokens. The
encoder, merger and projector are included. The llm's head is counted for one position, because only
the last position predicts a token.

The paper's (arXiv:2501.00574, Table 1), as fitted to its cells: 4 P L + 6 n d L^2, where P are the
weights of the llm's layers and its head, n is the number of layers, d their width, and L the number
of visual tokens. The encoder is not counted.
"""

import argparse
from collections.abc import Iterator, Sequence
import dataclasses
import json

import jax

from filax.cli import config_flags, options
from filax.models import components
from filax.plan import prefill

COLUMNS = ("encoder", "merger", "llm", "total", "paper")
HEAD = "  frames   tokens      encoder       merger          llm        total        paper   TFLOPs"


def main(argv: Sequence[str]) -> None:
  """Prints a table, or one JSON list with --json."""
  args, overrides = flops_parser().parse_known_args(argv)
  jax.config.update("jax_platforms", "cpu")  # Shapes need no device; do not wait for one.
  config, _ = config_flags.read_config(["--config", args.config, *overrides])
  costs = prefill.PrefillCosts(components.build_video_lm(config.model))
  rows = [costs.video_work(frames, args.tokens_per_frame) for frames in args.frames]
  if args.json:
    print(json.dumps([dataclasses.asdict(row) | dict(total=row.total) for row in rows]))
  else:
    print("\n".join(table_lines(rows)))


def flops_parser() -> argparse.ArgumentParser:
  """The options of `filax flops`; overrides of the config are left over."""
  parser = options.config_parser("flops", __doc__)
  add = parser.add_argument
  add(
    "--frames",
    type=options.whole_numbers(1),
    default=(64, 256, 1000, 10_000),
    help="numbers of frames, separated by commas",
  )
  add(
    "--tokens-per-frame",
    type=options.number(above=True, high=1e6),
    help="visual tokens of a frame; default: as the model merges them",
  )
  add("--json", action="store_true", help="print JSON, in FLOPs")
  return parser


def table_lines(rows: Sequence[prefill.PrefillWork]) -> Iterator[str]:
  """A head and one line per row, in TFLOPs."""
  yield HEAD
  for row in rows:
    line = f"{row.frames:>8,} {row.tokens:>8,}"
    for name in COLUMNS:
      line += f" {getattr(row, name) / 1e12:>12,.1f}"
    yield line
