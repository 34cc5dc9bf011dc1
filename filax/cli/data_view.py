# SPDX-License-Identifier: Apache-2.0
"""filax data view MANIFEST --config F[:args] --out page.html [--config.key=value ...]

Writes a page that shows how a config turns a manifest into training data: frames with their times,
the tokens of each sample (those that count in the loss in colour), the packing of rows, and why
samples were left out. Nothing is computed by a model. The page needs no other file.

  filax data view train.json --config configs/fila_stage4.py --out page.html \\
    --config.data.tokenizer=tokenizer.json

Without a tokenizer.json, --config.init_from=FOLDER takes that of a model, as training does.
"""

from collections.abc import Sequence
import os
import pathlib

import jax

from data_pipelines.packing.plan import make_plan
from data_pipelines.tools import view
from filax import starting_point
from filax.cli import config_flags, options, outputs
from filax.models import components
from filax.studies.data_page import data_page


def main(argv: Sequence[str]) -> int:
  """argv without the verbs -> exit code."""
  args, overrides = view_parser().parse_known_args(argv)
  if os.path.exists(args.out) and not args.force:
    raise ValueError(f"{args.out} exists. Set --out to a new file, or --force to replace it.")
  outputs.check_file(args.out)
  config, _ = config_flags.read_config(["--config", args.config, *overrides])
  jax.config.update("jax_platforms", "cpu")  # Shapes need no device.
  config.data.tokenizer = starting_point.first_tokenizer(config)
  data = config.data.to_dict()
  data["train"] = ((args.manifest, args.take),)
  data["root"] = args.root or data["root"]
  data["too_long"] = "skip"  # The page lists them.
  layout = components.build_video_lm(config.model).layout()
  plan = make_plan(data, layout, config.seed, config.batch)
  shown = view.view_plan(plan, args.samples, args.rows)
  page = data_page(shown, args.manifest, args.config)
  pathlib.Path(args.out).write_text(page, encoding="utf-8")
  print(
    f"Wrote {args.out}: {len(shown.samples)} of {len(plan.samples):,} samples and "
    f"{len(shown.rows)} of {plan.row_count(0):,} rows; {shown.not_learned:,} records are not "
    "learned."
  )
  return 0


def view_parser() -> options.Parser:
  """The options of `filax data view`."""
  parser = options.config_parser("data view", __doc__)
  add = parser.add_argument
  add("manifest", metavar="MANIFEST", help="a manifest, as in config.data.train")
  add("--out", required=True, help="the page, an .html file")
  add("--samples", type=options.whole_number(1), default=20, help="samples shown; default 20")
  add("--rows", type=options.whole_number(0), default=4, help="packed rows shown; default 4")
  add("--take", default="all", help="all, first:N, end:N or random:N of the records")
  add("--root", default="", help="folder of the media; default: config.data.root")
  add("--force", action="store_true", help="replace the page")
  return parser
