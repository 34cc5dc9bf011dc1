# SPDX-License-Identifier: Apache-2.0
"""filax convert from|to ...: weights out of PyTorch files into a checkpoint, and back.

  filax convert from --source llava-onevision-qwen2-7b-ov-hf --out runs/llava_ov --verify
  filax convert from --config configs/fila_stage1.py --encoder siglip-so400m-patch14-384 \\
    --llm Qwen2-7B-Instruct --out runs/base
  filax train --config configs/fila_stage1.py --workdir runs/s1 --config.init_from=runs/base
  filax convert to --checkpoint runs/stage4 --format hf --dtype bfloat16 --out fila-7b-hf

Beside what is written lies conversion_report.json: every tensor with its shape, dtype and sha256.
"""

import argparse
from collections.abc import Sequence
import importlib.util
import json
import math
from pathlib import Path
import re
import signal
import sys
from typing import Any

from filax import shipped_configs
from filax.checkpoint import streamed
from filax.cli import options
from filax.convert import config_in, export_folder, formats, import_folder, safetensors_writer
from filax.convert.verify import compare
from filax.models import components

FROM = """examples:
  a whole model    --source llava-onevision-qwen2-7b-ov-hf --out runs/llava_ov
  a fresh FiLA     --config configs/fila_stage1.py --encoder siglip-so400m-patch14-384 \\
                     --llm Qwen2-7B-Instruct --out runs/base
  a part           --source Qwen2-7B-Instruct --out runs/qwen2
  no config.json   --source UMT-L_f4_vision.pt --set encoder.name=umt --set encoder.variant=L-224 \\
                     --out runs/umt

read: safetensors (no torch needed), .bin and .pt (torch, weights_only), sharded or not, with or
without an index. Understood: Qwen2 and Qwen2.5, SigLIP, LLaVA-OneVision under all names that
transformers and LLaVA-NeXT have given it, VideoChat-Flash, encoder files, mm_projector.bin."""


def main(argv: Sequence[str]) -> int:
  """`argv` without the verb -> exit code."""
  options = parser().parse_args(argv)
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that nothing half-written stays.
  return options.run(options)


def parser() -> argparse.ArgumentParser:
  """The flags of both directions; `run` of what it parses does the work."""
  made = options.Parser(
    prog="filax convert",
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=__doc__.partition("\n\n")[2],
  )
  verbs = made.add_subparsers(dest="direction", required=True, metavar="from|to")
  _from_flags(verbs)
  _to_flags(verbs)
  return made


def _from_flags(verbs) -> None:
  add = verbs.add_parser(
    "from",
    help="PyTorch weights -> a FiLax checkpoint",
    epilog=FROM,
    description="Makes a checkpoint that filax.load, filax chat and config.init_from accept.",
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add.set_defaults(run=_from)
  add.add_argument("--source", help="folder or file of a whole model, or of one part")
  for role in import_folder.PARTS:
    add.add_argument(f"--{role}", help=f"folder or file that the {role} is taken from instead")
  add.add_argument(
    "--config",
    help="config of the model to assemble (F.py or F.py:args); what no file holds is "
    "drawn anew from config.seed. Without it the architecture comes from config.json",
  )
  add.add_argument(
    "--set",
    action="append",
    default=[],
    metavar="ROLE.FIELD=VALUE",
    help="what config.json does not say, e.g. llm.theta=1000000 (repeatable)",
  )
  add.add_argument(
    "--tokenizer", help="tokenizer.json, *.model, or a folder (default: beside the llm)"
  )
  add.add_argument(
    "--dtype",
    choices=("same", "float32", "bfloat16"),
    default="same",
    help="of the stored parameters (default: as in the files)",
  )
  add.add_argument(
    "--ignore",
    action="append",
    default=[],
    metavar="REGEX",
    type=_pattern,
    help="tensors of the files that are known to be unneeded (repeatable)",
  )
  _common(add)


def _to_flags(verbs) -> None:
  width = max(map(len, formats.FORMATS))
  add = verbs.add_parser(
    "to",
    help="a FiLax checkpoint -> a folder for PyTorch software",
    description="Writes safetensors, config.json, tokenizer and a run_torch.py that answers.",
    epilog="formats:\n"
    + "\n".join(f"  {form.name:<{width}}  {form.text}" for form in formats.FORMATS.values()),
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add.set_defaults(run=_to)
  add.add_argument("--checkpoint", required=True, help="folder of a run, or of one of its steps")
  add.add_argument("--format", choices=tuple(formats.FORMATS), default="hf", help="default: hf")
  add.add_argument(
    "--dtype",
    choices=("same", "float32", "bfloat16"),
    default="same",
    help="of the written weights (default: as stored); fusion weights stay in float32",
  )
  add.add_argument(
    "--shard-gb",
    type=_positive,
    default=5.0,
    metavar="GB",
    help="size of a file at most (default: 5)",
  )
  add.add_argument("--tokenizer", help="tokenizer.json, *.model, or a folder (default: the run's)")
  _common(add)


def _common(add) -> None:
  add.add_argument("--out", required=True, help="folder to write; must not exist")
  add.add_argument(
    "--components", action="append", default=[], metavar="MODULE", help=components.COMPONENTS_HELP
  )
  add.add_argument(
    "--verify",
    nargs="?",
    const="float32",
    choices=tuple(compare.TOLERANCE),
    metavar="DTYPE",
    help="run both sides on the same tokens and pixels, in float32 (default) or bfloat16, and "
    "refuse what differs; needs torch and transformers",
  )
  add.add_argument(
    "--tolerance",
    type=_positive,
    help="of --verify, relative to the largest value (default: 1e-4 in float32, 5e-2 in bfloat16)",
  )


def _from(options) -> int:
  request = import_folder.Request(
    out=options.out,
    source=options.source,
    config=_config(options.config),
    parts={r: getattr(options, r) for r in import_folder.PARTS if getattr(options, r)},
    sets=dict(map(_assignment, options.set)),
    dtype=options.dtype,
    ignore=options.ignore,
    base=_base(),
    tokenizer=_tokenizer(options),
    components=options.components,
  )
  report = import_folder.convert(request, _check_from(options))
  _say(options.out, report)
  return 0


def _to(options) -> int:
  request = export_folder.Request(
    checkpoint=options.checkpoint,
    out=options.out,
    format=options.format,
    dtype=options.dtype,
    shard=int(options.shard_gb * safetensors_writer.GB),
    tokenizer=_tokenizer(options),
    components=options.components,
  )
  report = export_folder.convert(request, _check_to(options))
  _say(options.out, report)
  return 0


def _check_from(options):
  """The check of a new checkpoint against the folders that it came from."""
  if not options.verify:
    return None

  def check(folder: Path, sources, model) -> dict[str, Any]:
    theirs = []
    for part in sources:
      family = _family(part, model, options.components)
      theirs.append(dict(path=part.path, roles=part.roles, family=family))
    return compare.run(theirs, folder, model, options.verify, options.tolerance)

  return check


def _family(part, model, components) -> str:
  """How verify runs an input: by its config.json, or as a video tower without one."""
  lone = part.roles == ("encoder",) and model["encoder"]["name"] in ("umt", "internvideo2")
  return config_in.family(config_in.load(part.path, components)) or ("tower" if lone else "")


def _check_to(options):
  """The check of a new folder against the checkpoint that it came from."""
  if not options.verify:
    return None

  def check(folder: Path, form, model) -> dict[str, Any]:
    theirs = [dict(path=folder, family=form.family, roles=form.roles)]
    return compare.run(
      theirs, streamed.step_folder(options.checkpoint), model, options.verify, options.tolerance
    )

  return check


def _say(out: str, report: dict[str, Any]) -> None:
  counts = report["counts"]
  extra = [
    f"{counts[k]} {k.replace('_', ' ')}" for k in ("unused_by_design", "drawn_anew") if counts[k]
  ]
  print(
    f"{out}: {counts['consumed']} tensors{''.join(f', {text}' for text in extra)}; "
    f"{report['seconds']:.0f} s, peak memory {report['peak_memory_bytes'] / 1e9:.1f} GB"
  )
  if found := report.get("verify"):
    print(
      "verified in "
      + found["dtype"]
      + ": "
      + ", ".join(f"{name} {value:.1e}" for name, value in found["max_difference"].items())
    )


def _config(name: str | None) -> dict[str, Any] | None:
  """configs/F.py:args -> its plain dict."""
  if name is None:
    return None
  shipped_configs.make_importable()
  path, _, arg = name.partition(":")
  path = shipped_configs.find_file(path)
  if not Path(path).is_file():
    raise FileNotFoundError(f"There is no config {path}.")
  spec = importlib.util.spec_from_file_location("filax_config", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(arg or None).to_dict()


def _base() -> dict[str, Any]:
  return shipped_configs.load_module("common").base().to_dict()


def _positive(text: str) -> float:
  value = float(text)
  if not 0 < value < math.inf:
    raise argparse.ArgumentTypeError(f"{text} is not above 0")
  return value


def _pattern(text: str) -> str:
  try:
    re.compile(text)
  except re.error as error:
    raise argparse.ArgumentTypeError(f"{text} is no regular expression ({error})") from None
  return text


def _assignment(text: str) -> tuple[str, Any]:
  key, equals, value = text.partition("=")
  if not equals:
    raise ValueError(f"--set {text} is not ROLE.FIELD=VALUE.")
  try:
    value = json.loads(value.lower() if value in ("True", "False") else value)
  except ValueError:
    pass  # A bare word is a string.
  return key, tuple(value) if isinstance(value, list) else value


def _tokenizer(options) -> Any:
  """The tokenizer that was named, or the one beside the llm; None if there is none."""
  from data_pipelines.text import tokenizers

  if options.tokenizer:
    return tokenizers.load(options.tokenizer)
  if hasattr(options, "checkpoint"):
    step = streamed.absolute(options.checkpoint)
    near = (step, step.parent, step.parent.parent)
  else:
    near = [Path(path) for path in (options.llm, options.source) if path]
  for folder in near:
    names = [folder / "tokenizer.json", *folder.glob("*.model")]
    if any(name.is_file() for name in names):
      return tokenizers.load(folder)
  return None
