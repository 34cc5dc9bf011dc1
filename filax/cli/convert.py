# SPDX-License-Identifier: Apache-2.0
"""filax convert from|to

Weights out of PyTorch files into a checkpoint, and back.

  filax convert from --source llava-onevision-qwen2-7b-ov-hf --out runs/llava_ov --verify
  filax convert from --config configs/fila_stage1.py --encoder siglip-so400m-patch14-384 \\
    --llm Qwen2-7B-Instruct --out runs/base
  filax train --config configs/fila_stage1.py --workdir runs/s1 --config.init_from=runs/base
  filax convert to --checkpoint runs/stage4 --format hf --dtype bfloat16 --out fila-7b-hf

Both also write conversion_report.json, which lists every tensor with its shape, dtype and sha256.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
import json
from pathlib import Path
import re
import signal
import sys
from typing import Any

from filax import compilation_cache, released, shipped_configs
from filax.checkpoint import streamed
from filax.cli import checkpoint_options, config_flags, options
from filax.configs import common
from filax.convert import config_in, formats, peft_in, peft_out, safetensors_writer
from filax.convert.export_folder import ExportRequest, export_checkpoint
from filax.convert.formats import ExportFormat
from filax.convert.gguf import container
from filax.convert.import_folder import import_checkpoint
from filax.convert.import_inputs import PARTS, ImportRequest
from filax.convert.tensor_plan import WeightSource
from filax.convert.verify import compare
from filax.models import components

SHARD_GB = 5.0  # GB of a file at most.
PEFT = {  # Formats of adapters alone.
  "peft": "the adapters alone, for PEFT and vLLM, over the folder of hf or videochat-flash",
  "peft-qwen2": "the same over the language model alone",
}
DTYPES = ("same", "float32", "bfloat16")
# Options without meaning for adapters, and their defaults.
_OF_WHOLE_WEIGHTS = dict(dtype="same", shard_gb=SHARD_GB, tokenizer=None, verify=None)
_OF_MODELS = dict.fromkeys((*PARTS, "config", "tokenizer", "verify")) | dict(
  dtype="same", set=[], ignore=[]
)
FROM_EXAMPLES = """examples:
  a whole model    --source llava-onevision-qwen2-7b-ov-hf --out runs/llava_ov
  a fresh FiLA     --config configs/fila_stage1.py --encoder siglip-so400m-patch14-384 \\
                     --llm Qwen2-7B-Instruct --out runs/base
  a part           --source Qwen2-7B-Instruct --out runs/qwen2
  PEFT adapters    --source my-adapters --base runs/llava_ov --out runs/adapters
  from llama.cpp   --source SmolLM2-135M-Instruct.Q4_1.gguf --out runs/smollm2
  no config.json   --source UMT-L_f4_vision.pt --set encoder.name=umt --set encoder.variant=L-224 \\
                     --out runs/umt

read: safetensors (no torch needed), .bin and .pt (torch, weights_only), sharded or not, with or
without an index, and a language model's .gguf (pip install 'filax[gguf]'). Understood: Qwen2,
Qwen2.5, Qwen3, Llama (with Vicuna and SmolLM2), SigLIP, LLaVA-OneVision under all names that
transformers and LLaVA-NeXT have given it, VideoChat-Flash, encoder files, mm_projector.bin."""


def main(argv: Sequence[str]) -> int:
  """`argv` without the verb -> exit code."""
  args = convert_parser().parse_args(argv)
  compilation_cache.enable()
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that nothing half-written stays.
  report = args.convert(args)
  print(_summary(args.out, report))
  return 0


def convert_parser() -> argparse.ArgumentParser:
  """The parser of both directions.

  The parsed `args.convert` is the function that converts: call `args.convert(args)`.
  """
  parser = options.Parser(
    prog="filax convert",
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=(__doc__ or "").partition("\n\n")[2],
  )
  directions = parser.add_subparsers(
    dest="direction", required=True, metavar="from|to", parser_class=options.VerbParser
  )
  _add_from_parser(directions)
  _add_to_parser(directions)
  return parser


def _add_from_parser(directions) -> None:
  parser = directions.add_parser(
    "from",
    help="PyTorch weights -> a FiLax checkpoint",
    epilog=FROM_EXAMPLES,
    description="Makes a checkpoint that filax.load, filax chat and config.init_from accept.",
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.set_defaults(convert=_convert_from)
  add = parser.add_argument
  add("--source", help="folder or file of a whole model, or of one part")
  for role in PARTS:
    add(f"--{role}", help=f"folder or file from which the {role} is taken instead")
  add(
    "--config",
    help="config of the model to assemble (F.py or F.py:args); what no file holds is "
    "drawn anew from config.seed. Without it the architecture comes from config.json",
  )
  add(
    "--set",
    action="append",
    default=[],
    metavar="ROLE.FIELD=VALUE",
    help="a setting that config.json lacks, e.g. llm.theta=1000000 (repeatable)",
  )
  add("--tokenizer", help="tokenizer.json, *.model, or a folder (default: beside the llm)")
  add(
    "--dtype",
    choices=DTYPES,
    default="same",
    help="dtype of the stored parameters (default: as in the files)",
  )
  add(
    "--ignore",
    action="append",
    default=[],
    metavar="REGEX",
    type=_pattern,
    help="names of tensors that are not needed (repeatable)",
  )
  _add_common_options(parser)


def _add_to_parser(directions) -> None:
  width = max(map(len, formats.FORMATS))
  texts = {name: row.text for name, row in formats.FORMATS.items()} | PEFT
  rows = [f"  {name:<{width}}  {text}" for name, text in texts.items()]
  parser = directions.add_parser(
    "to",
    help="a FiLax checkpoint -> a folder for PyTorch software",
    description="Writes safetensors, config.json, tokenizer and a run_torch.py that answers.",
    epilog="\n".join(["formats:", *rows]),
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.set_defaults(convert=_convert_to)
  add = parser.add_argument
  add(
    "--checkpoint",
    required=True,
    help="folder of a run, of one of its steps, or of a released model",
  )
  add("--format", choices=(*formats.FORMATS, *PEFT), default="hf", help="default: hf")
  add(
    "--dtype",
    choices=DTYPES,
    default="same",
    help="dtype of the written weights (default: as stored); fusion weights stay in float32",
  )
  add(
    "--shard-gb",
    type=options.number(above=True),
    default=SHARD_GB,
    metavar="GB",
    help="the largest size of a file (default: 5)",
  )
  add("--tokenizer", help="tokenizer.json, *.model, or a folder (default: the run's)")
  checkpoint_options.add_no_average(parser)
  _add_common_options(parser)


def _add_common_options(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add("--out", required=True, help="folder to write; must not exist")
  checkpoint_options.add_base(parser)
  add(
    "--components", action="append", default=[], metavar="MODULE", help=components.COMPONENTS_HELP
  )
  add(
    "--verify",
    nargs="?",
    const="float32",
    choices=tuple(compare.TOLERANCE),
    metavar="DTYPE",
    help="run both sides on the same tokens and pixels, in float32 (default) or bfloat16, and "
    "refuse what differs; needs torch and transformers",
  )
  add(
    "--tolerance",
    type=options.number(above=True),
    help="tolerance of --verify, relative to the largest value (default: 1e-4 in float32, 5e-2 in "
    "bfloat16)",
  )


def _convert_from(args: argparse.Namespace) -> dict[str, Any]:
  if peft_in.is_peft(args.source):
    _refuse_options(args, _OF_MODELS, f"{args.source} holds adapters of PEFT, which take")
    if not args.base:
      raise ValueError(
        f"{args.source} holds adapters of PEFT. Give --base the run, or the folder that "
        "`filax convert from` wrote, or the released folder of the model that they adapt."
      )
    return peft_in.import_adapters(args.source, args.out, args.base, args.components)
  _refuse_options(args, dict(base=None), "--source holds no adapters of PEFT, so it takes")
  config = None
  if args.config is not None:
    config = _read_config(args.config)
  parts = {role: getattr(args, role) for role in PARTS if getattr(args, role)}
  weight_folders = [Path(path) for path in (args.llm, args.source) if path]
  request = ImportRequest(
    out=args.out,
    source=args.source,
    config=config,
    parts=parts,
    sets=dict(map(_assignment, args.set)),
    dtype=args.dtype,
    ignore=args.ignore,
    base=common.base().to_dict(),
    tokenizer=_load_tokenizer(args.tokenizer, weight_folders),
    components=args.components,
  )

  def verify(
    folder: Path,
    sources: Sequence[WeightSource],
    model: Mapping[str, Any],
  ) -> dict[str, Any]:
    theirs = [_verified_part(source, model, args.components) for source in sources]
    return compare.compare_models(theirs, folder, model, args.verify, args.tolerance)

  return import_checkpoint(request, verify if args.verify else None)


def _refuse_options(args: argparse.Namespace, defaults: Mapping[str, Any], beginning: str) -> None:
  """Raises ValueError naming options that were given although nothing would read them."""
  unread = []
  for name, default in defaults.items():
    if getattr(args, name) != default:
      unread.append(f"--{name.replace('_', '-')}")
  if unread:
    raise ValueError(f"{beginning} no {' and no '.join(unread)}. Leave out {' and '.join(unread)}.")


def _verified_part(
  source: WeightSource,
  model: Mapping[str, Any],
  allowed: Sequence[str],
) -> compare.PyTorchPart:
  """The PyTorch side of a verification.

  A UMT or InternVideo2 encoder without a family in its config.json is a video tower.
  """
  config = config_in.read_config_json(source.path, allowed)
  family = config_in.config_family(config)
  is_encoder = source.roles == ("encoder",)
  if not family and is_encoder and model["encoder"]["name"] in ("umt", "internvideo2"):
    family = "tower"
  return compare.PyTorchPart(source.path, family, source.roles)


def _convert_to(args: argparse.Namespace) -> dict[str, Any]:
  if args.checkpoint.startswith(("gs://", "s3://")):
    raise ValueError(
      f"--checkpoint {args.checkpoint} is not on this machine, where `filax convert` reads. Copy "
      "it to this machine first (gcloud storage cp -r; aws s3 cp --recursive)."
    )
  checkpoint = released.find_checkpoint(args.checkpoint, args.components)
  if args.format in PEFT:
    _refuse_options(args, _OF_WHOLE_WEIGHTS, f"--format {args.format} takes")
    llm_alone = args.format == "peft-qwen2"
    return peft_out.export_adapters(checkpoint, args.out, args.components, llm_alone)
  step = streamed.absolute(checkpoint)
  run_folders = [step, step.parent, step.parent.parent]
  request = ExportRequest(
    checkpoint=checkpoint,
    out=args.out,
    format=args.format,
    dtype=args.dtype,
    shard=int(args.shard_gb * safetensors_writer.GB),
    tokenizer=_load_tokenizer(args.tokenizer, run_folders),
    components=args.components,
  )

  def verify(
    folder: Path,
    export_format: ExportFormat,
    model: Mapping[str, Any],
  ) -> dict[str, Any]:
    part = compare.PyTorchPart(folder, export_format.family, export_format.roles)
    step = streamed.step_folder(checkpoint)
    return compare.compare_models([part], step, model, args.verify, args.tolerance)

  return export_checkpoint(request, verify if args.verify else None)


def _summary(out: str, report: Mapping[str, Any]) -> str:
  """The counts of a report and its largest differences, for people."""
  counts = report["counts"]
  facts = [f"{counts['consumed']} tensors"]
  for key in ("unused_by_design", "drawn_anew"):
    if counts[key]:
      facts.append(f"{counts[key]} {key.replace('_', ' ')}")
  seconds = f"{report['seconds']:.0f} s"
  memory = f"{report['peak_memory_bytes'] / 1e9:.1f} GB"
  lines = [f"{out}: {', '.join(facts)}; {seconds}, peak memory {memory}"]
  verified = report.get("verify")
  if verified:
    differences = [f"{name} {value:.1e}" for name, value in verified["max_difference"].items()]
    lines.append(f"verified in {verified['dtype']}: {', '.join(differences)}")
  return "\n".join(lines)


def _read_config(name: str) -> dict[str, Any]:
  """configs/F.py:args -> its plain dict."""
  file = name.partition(":")[0]
  if not Path(shipped_configs.find_file(file)).is_file():
    raise FileNotFoundError(f"There is no config {file}.")
  config, _ = config_flags.read_config([f"--config={name}"])
  return config.to_dict()


def _pattern(text: str) -> str:
  """An argparse type: a regular expression."""
  try:
    re.compile(text)
  except re.error as error:
    raise argparse.ArgumentTypeError(f"{text} is not a regular expression ({error})") from None
  return text


def _assignment(text: str) -> tuple[str, Any]:
  """ROLE.FIELD=VALUE -> (key, value).

  The value is JSON, or a text without quotes.
  """
  key, equals, value = text.partition("=")
  if not equals:
    raise ValueError(f"--set {text} is not ROLE.FIELD=VALUE.")
  if value in ("True", "False"):
    value = value.lower()
  try:
    value = json.loads(value)
  except ValueError:
    return key, value  # A bare word is a string.
  return key, tuple(value) if isinstance(value, list) else value


def _load_tokenizer(path: str | None, folders: Iterable[Path]) -> Any:
  """The tokenizer at `path`, or the first in `folders`.

  None if there is no `path` and no folder holds one.
  """
  from data_pipelines.text import tokenizer_folder, tokenizers

  remedy = tokenizers.set_to("--tokenizer")
  if path:
    return tokenizers.load_tokenizer(path, remedy)
  for folder in folders:
    if container.is_gguf(folder):
      return released.gguf_tokenizer(folder)
    tokenizer = tokenizer_folder.load_if_present(folder, remedy)
    if tokenizer is not None:
      return tokenizer
  return None
