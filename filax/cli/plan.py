# SPDX-License-Identifier: Apache-2.0
"""filax plan --config F[:args] --topology v5p:4x4x4 [--config.key=value ...]

Compiles the train step of a config for a slice of TPUs that need not be there, and says what it
would take: memory of a chip by kind, whether it fits and what helps if not, FLOPs, bytes that chips
send each other, and the time that no step can beat. Needs the extra `tpu` (libtpu), on any Linux
machine; a step of a 7B takes one to ten minutes to compile.

  filax plan --config configs/fila_stage4.py --topology v5e:16x16
  filax plan --config configs/vcf_stage3.py:dropout=uniform0_attention --topology v5p:4x4x4 --json
  filax plan --config configs/vcf_stage3.py --topology v6e:16x16 --search
      Tries meshes, recomputation and rows at a time until the largest rows fit.
"""

import argparse
from collections.abc import Sequence
import json

import jax

from filax.cli import config_flags, options
from filax.plan import report, search, topology


def main(argv: Sequence[str]) -> int:
  """argv without the verb -> exit code: 0 if all rows fit."""
  args, rest = parser().parse_known_args(argv)
  jax.config.update("jax_platforms", "cpu")  # The slice is only compiled for.
  slice_ = topology.parse(args.topology)
  config, _ = config_flags.read(["--config", args.config, *rest])
  if args.search:
    return _search(config.to_dict(), slice_, args.json)
  found = report.plan(config.to_dict(), slice_, args.samples, args.largest)
  found["config"] = args.config
  if args.json:
    print(json.dumps(found, indent=2))
  else:
    print("\n".join([args.config, *report.lines(found)]))
  return 0 if found["fits"] else 1


def parser() -> argparse.ArgumentParser:
  made = options.Parser(
    prog="filax plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument("--config", required=True, help="a config file, with :arguments")
  made.add_argument(
    "--topology",
    required=True,
    help=f"kind:chips along each axis; kinds are {', '.join(topology.CHIPS)}; 2*... = two slices",
  )
  made.add_argument(
    "--samples", type=options.whole(0), default=0, help="of the stage, for its chip-hours"
  )
  made.add_argument("--largest", action="store_true", help="only the largest rows of the config")
  made.add_argument("--search", action="store_true", help="look for a mesh that fits")
  made.add_argument("--json", action="store_true", help="print JSON, in bytes, FLOPs and seconds")
  return made


def _search(config, slice_: topology.Topology, as_json: bool) -> int:
  trials = []
  for trial in search.search(config, slice_):
    trials.append(trial)
    if not as_json:
      print(_trial_line(trial), flush=True)
  found = search.best(trials)
  if as_json:
    print(json.dumps(dict(topology=str(slice_), best=found, trials=trials), indent=2))
  elif found:
    mesh = ",".join(f"{axis}={size}" for axis, size in found["mesh"].items())
    print(
      f"Set config.mesh to dict({mesh}), config.model.llm.remat={found['remat']}, "
      f"config.optim.accumulate={found['accumulate']}."
    )
  else:
    print("Nothing fits. Use more chips, shorter rows, or a larger kind of chip.")
  return 0 if found else 1


def _trial_line(trial) -> str:
  mesh = " ".join(f"{axis}={size}" for axis, size in trial["mesh"].items())
  held = "" if trial["bytes"] is None else f" {trial['bytes'] / topology.GIB:.2f} GiB"
  verdict = "fits" if trial["fits"] else f"does not fit: {trial['error'][:160]}"
  return f"{mesh} remat={trial['remat']} rows at once={trial['rows_at_once']}:{held} {verdict}"
