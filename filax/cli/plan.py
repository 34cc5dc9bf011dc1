# SPDX-License-Identifier: Apache-2.0
"""filax plan --config F[:args] --topology v5p:4x4x4 [--config.key=value ...]

Compiles the train step of a config for a slice of TPUs. No TPU is needed, only the extra `tpu`
(libtpu) on any Linux machine. The step of a 7B model takes one to ten minutes to compile. Prints:

- the memory of a chip by kind, whether it fits, and which settings help if it does not;
- FLOPs, bytes that chips send each other, and a lower bound of the step time;
- with config.evals, the memory of the largest evaluation between two steps.

config.model.*.remat="auto" and config.optim.accumulate="auto" are chosen as `filax train` chooses
them. If a choice turns out not to fit once it is compiled, up to two smaller ones are tried.

With --serve, prefill and decoding of the llm are compiled instead, for videos of --frames frames
with and without visual dropout. Prints the memory of a chip, the bytes read per token, and a lower
bound of the time per token.

  filax plan --config configs/fila_stage4.py --topology v5e:16x16
  filax plan --config configs/vcf_stage3.py:dropout=uniform0_attention --topology v5p:4x4x4 --json
  filax plan --config configs/vcf_stage3.py --topology v6e:16x16 --search
      Tries meshes until the largest rows fit, and then more rows at a time. Recomputation that is
      "auto" is chosen for each mesh; otherwise less of it is tried as well.
  filax plan --config configs/vcf_stage3.py --topology v5e:2x2 --serve --frames 64,512,2048,10000
"""

import argparse
from collections.abc import Mapping, Sequence
import json
from typing import Any

import jax
from ml_collections import ConfigDict

from filax import starting_point
from filax.cli import config_flags, options
from filax.plan import lines, report, search, serving, serving_lines, topology
from filax.plan.evaluation import EvaluationDemand
from filax.train.chips import GIB


def main(argv: Sequence[str]) -> int:
  """argv without the verb -> exit code: 0 if all rows fit."""
  args, overrides = plan_parser().parse_known_args(argv)
  jax.config.update("jax_platforms", "cpu")  # The slice is only compiled for.
  slice_ = topology.parse_topology(args.topology)
  config, _ = config_flags.read_config(["--config", args.config, *overrides])
  starting_point.plan_vocabulary(config)
  if args.serve:
    return _serve(args, config.to_dict(), slice_)
  if args.search:
    return _search(config.to_dict(), slice_, args.json)
  demands = evaluation_demands(config)
  plan = report.plan_config(config.to_dict(), slice_, args.samples, args.largest, demands)
  plan["config"] = args.config
  if args.json:
    print(json.dumps(plan, indent=2))
  else:
    print("\n".join([args.config, *lines.plan_lines(plan)]))
  return 0 if plan["fits"] else 1


def evaluation_demands(config: ConfigDict) -> list[EvaluationDemand]:
  """What config.evals asks for. Raises ValueError for an unknown name."""
  if not config.get("evals"):
    return []
  from filax.evals import planned

  demands = []
  for evaluation in planned.plan_evaluations(config.evals):
    benchmark = evaluation.benchmark
    new_tokens = 0
    for protocol in benchmark.protocols.values():
      new_tokens = max(new_tokens, protocol.max_new_tokens or config.infer.max_new_tokens)
    demands.append(EvaluationDemand(benchmark.frames, new_tokens))
  return demands


def plan_parser() -> argparse.ArgumentParser:
  """The options of `filax plan`; overrides of the config are left over."""
  parser = options.config_parser("plan", __doc__)
  add = parser.add_argument
  add(
    "--topology",
    required=True,
    help="the slice, as kind:chips along each axis, such as v5p:4x4x4, or 2*v5p:4x4x4 for two; "
    f"kinds: {', '.join(topology.CHIPS)}",
  )
  add(
    "--samples",
    type=options.whole_number(0),
    default=0,
    help="number of samples of a training, to print its chip-hours",
  )
  add("--largest", action="store_true", help="plan only the largest size of rows of the config")
  add("--search", action="store_true", help="look for a mesh that fits")
  add("--serve", action="store_true", help="plan answers about videos instead of training")
  add(
    "--frames",
    type=_frame_counts,
    default=(64, 512, 2048),
    help="with --serve: numbers of frames of a video, separated by commas",
  )
  add(
    "--dropout",
    default="off,uniform0_attention",
    help="with --serve: values of config.model.llm.dropout, separated by commas",
  )
  add(
    "--prompts",
    type=options.whole_number(1),
    default=1,
    help="with --serve: prompts answered at a time",
  )
  add("--json", action="store_true", help="print JSON, in bytes, FLOPs and seconds")
  return parser


def _frame_counts(text: str) -> tuple[int, ...]:
  """ "64,512" as (64, 512)."""
  counts = []
  for word in text.split(","):
    if not word.strip().isdecimal() or int(word) < 1:
      raise argparse.ArgumentTypeError(f"{text!r} is not a list of frames such as 64,512,2048")
    counts.append(int(word))
  return tuple(counts)


def _serve(args: argparse.Namespace, config: Mapping[str, Any], slice_: topology.Topology) -> int:
  """Prints the plan of serving; returns 0 if everything fits."""
  dropouts = args.dropout.split(",")
  plan = serving.plan_serving(config, slice_, args.frames, dropouts, args.prompts)
  plan["config"] = args.config
  if args.json:
    print(json.dumps(plan, indent=2))
  else:
    print("\n".join([args.config, *serving_lines.serving_lines(plan)]))
  return 0 if plan["fits"] else 1


def _search(config: Mapping[str, Any], slice_: topology.Topology, as_json: bool) -> int:
  """Prints all trials and the best; returns 0 if one fits."""
  trials = []
  for trial in search.search_meshes(config, slice_):
    trials.append(trial)
    if not as_json:
      print(_trial_line(trial), flush=True)
  best = search.best_trial(trials)
  if as_json:
    print(json.dumps(dict(topology=str(slice_), best=best, trials=trials), indent=2))
  elif best:
    mesh = _mesh_words(best["mesh"])
    print(
      f"Set config.mesh to dict({','.join(mesh)}), config.model.llm.remat={best['remat']}, "
      f"config.optim.accumulate={best['accumulate']}."
    )
  else:
    print("Nothing fits. Use more chips, shorter rows, or a larger kind of chip.")
  return 0 if best else 1


def _trial_line(trial: Mapping[str, Any]) -> str:
  mesh = " ".join(_mesh_words(trial["mesh"]))
  memory = ""
  if trial["bytes"] is not None:
    memory = f" {trial['bytes'] / GIB:.2f} GiB"
  verdict = "fits" if trial["fits"] else f"does not fit: {trial['error'][:160]}"
  return f"{mesh} remat={trial['remat']} rows at once={trial['rows_at_once']}:{memory} {verdict}"


def _mesh_words(sizes: Mapping[str, int]) -> list[str]:
  """Mesh sizes as ["data=1", "fsdp=4", ...]."""
  return [f"{axis}={size}" for axis, size in sizes.items()]
