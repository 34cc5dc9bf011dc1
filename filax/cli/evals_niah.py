# SPDX-License-Identifier: Apache-2.0
"""filax evals niah: is a needle found in a video of 10,000 frames?

  filax evals niah --checkpoint runs/demo/stage2 --out runs/demo/niah
  filax evals niah --checkpoint CKPT --multi-hop --needles niah-coco-multihop-100.json \\
    --images NIAH-Video --haystack NIAH-Video/video_haystack.mkv --yarn 4 --out DIR

Without --needles and --haystack, FiLax draws both. The same command continues a stopped run. DIR
then holds result.json, answers.jsonl, all_accuracies.json (in the published form) and a figure.
Three controls are reported beside the score: grey frames, no needle, another question's needle.
If one exceeds chance, the questions can be answered without finding the needle.
"""

import argparse
from collections.abc import Mapping, Sequence
import json
from typing import Any

from filax import settings
from filax.cli import checkpoint_options, options


def main(argv: Sequence[str]) -> None:
  """Prints scores by length and depth, or the result as JSON."""
  args = niah_parser().parse_args(argv)
  from filax.evals.needle.run import run_needles
  from filax.evals.needle.setup import NeedleOptions
  from filax.infer.device_mesh import PARAMETERS

  session = checkpoint_options.load_on_devices(args, PARAMETERS)
  session = session.adjusted(yarn=args.yarn, dropout=args.dropout)
  needle_options = NeedleOptions(
    protocol=args.protocol,
    multi_hop=args.multi_hop,
    lengths=args.lengths or (),
    depths=args.depths or (),
    needles=args.needles,
    images=args.images,
    haystack=args.haystack,
    limit=args.limit,
    seed=args.seed,
    encode_cache=args.encode_cache,
  )
  result = run_needles(session, needle_options, args.out)
  if args.json:
    del result["answers"]
    print(json.dumps(result))
  else:
    print(result_table(result))


def niah_parser() -> argparse.ArgumentParser:
  """The options of `filax evals niah`."""
  parser = options.Parser(
    prog="filax evals niah",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  checkpoint_options.add_checkpoint(parser)
  checkpoint_options.add_devices(parser)
  add = parser.add_argument
  add(
    "--protocol",
    default="vcf",
    help="vcf (letters) or longva (words; by default up to 3,000 frames)",
  )
  add("--multi-hop", action="store_true", help="chains of clues with decoys, two questions each")
  add(
    "--lengths", type=options.whole_numbers(1), help="frames of the haystack, e.g. 1000,5000,10000"
  )
  add("--depths", type=_depths, help="where the needle is hidden, from 0 to 1: 0,0.5,1")
  add("--needles", default="", help="a needle file, or the folder of the released one")
  add("--images", default="", help="folder of the needle pictures; default: the needle file's")
  add("--haystack", default="", help="a video, read at one frame a second; default: drawn scenes")
  add("--limit", type=options.whole_number(1), help="ask about the first needles only")
  add(
    "--seed",
    type=options.whole_number(0, settings.LARGEST_SEED),
    default=0,
    help="seed of drawn needles and scenes",
  )
  add("--yarn", type=options.number(1), help="stretch the context by this factor")
  add(
    "--dropout",
    default="off",
    help="visual dropout: off (as published), a preset, or layer:kind:ratio,...; with it every "
    "context is read in full",
  )
  add("--encode-cache", default="", help="folder that keeps the tokens of a haystack video")
  add("--out", default="", help="folder of the results; the same command continues there")
  add("--json", action="store_true", help="print result.json")
  return parser


def _depths(text: str) -> tuple[float, ...]:
  """Numbers from 0 to 1, with commas."""
  parse_depth = options.number(0, high=1)
  return tuple(map(parse_depth, text.split(",")))


def result_table(result: Mapping[str, Any]) -> str:
  """The result in words."""
  settings = result["settings"]
  lines = [
    f"{result['benchmark']} ({result['protocol']}), {settings['tokens_per_frame']:.4g} tokens a "
    f"frame, needles of {settings['needle_frames']} frames"
  ]
  for name, score in result["scores"].items():
    lines.append(f"  {name:<16} {_number(score)}")
  lines.append(f"  {'chance':<16} {_number(result['chance'])}")
  for column, groups in result["by"].items():
    for value, group in groups.items():
      score = group.get(result["metric"], group["accuracy"])
      lines.append(f"  {column + ' ' + value:<16} {_number(score)}  ({group['questions']})")
  for control in result["controls"].values():
    lines.append(_control_line(control))
  work = result["work"]
  lines.append(
    f"{work.get('haystack_encodings', 0)} encodings of the haystack, {work.get('prefills', 0)} "
    f"prefills and {work.get('control_prefills', 0)} of controls; "
    f"{work.get('tokens_read', 0):,} tokens read instead of "
    f"{work.get('tokens_without_sharing', 0):,}; {result['seconds']['total']:.1f} s"
  )
  for reason in result["reasons"]:
    lines.append(f"not comparable: {reason}")
  lines += list(result["bad_media"].values())[:10]
  return "\n".join(lines)


def _control_line(control: Mapping[str, Any]) -> str:
  """A control beside chance."""
  if not control["questions"]:
    return f"  {control['shows']}: {control['reason']}"
  verdict = {True: "ABOVE CHANCE", False: "at chance", None: "chance unknown"}
  return (
    f"  {control['shows']}: {_number(control['accuracy'])}, chance {_number(control['chance'])}: "
    f"{verdict[control['above_chance']]}  ({control['questions']})"
  )


def _number(score: float | None) -> str:
  return "-" if score is None else f"{score:.3f}"
